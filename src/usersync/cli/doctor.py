"""``usersync doctor``: numbered checks. Each problem comes with its fix."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.doctor_view import CanaryResult, DoctorView, FixResult, remedy_lines
from usersync.cli.options import DEFAULTS, Call, common_options, examples, names
from usersync.cli.text import count
from usersync.errors import ConnectionFailedError, UsersyncError

if TYPE_CHECKING:
    import psycopg

    from usersync.cli.output import View
    from usersync.config.settings import Settings
    from usersync.doctor.context import CanaryCheck, Definition
    from usersync.doctor.fixes import Remedy
    from usersync.models import Check


def _codes(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.upper() for code in names(context, parameter, given))


@click.command(
    epilog=examples(
        ("usersync doctor", "all checks"),
        ("usersync doctor --only D004,D017", "some of them"),
        ("usersync doctor --strict --json", "for a pipeline"),
        ("usersync doctor --canary", "and tries sign-ups, which are rolled back"),
        ("usersync doctor --fix", "shows the safe fixes, and asks"),
    )
)
@click.option(
    "--only",
    "codes",
    multiple=True,
    callback=_codes,
    metavar="CODES",
    help="Only these checks, for example D004,D017. Repeatable.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
@click.option(
    "--canary",
    is_flag=True,
    help="Also try every kind of sign-up, change and deletion. Each is rolled back (D033 to D035).",
)
@click.option(
    "--call-out",
    is_flag=True,
    help="Run the canary even if a trigger calls another server or advances a sequence whose numbers are "
    "data. Neither is rolled back.",
)
@click.option("--fix", is_flag=True, help="Run the safe fixes, after showing their SQL.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask. Required without a terminal.")
@common_options
def doctor(
    call: Call, codes: tuple[str, ...], *, strict: bool, canary: bool, call_out: bool, fix: bool, yes: bool
) -> View:
    """Run all checks. Each problem comes with its fix.

    Writes nothing without --fix. Without a settings file, uses the settings that usersync was last applied
    with. Exit code 1 if there is a problem, or if no check could run; 3 if the database is unreachable.
    """
    from usersync.doctor import choose, choose_with_canary  # noqa: PLC0415 - only if used

    checks, canary_checks = choose_with_canary(codes) if canary else (choose(codes), ())
    _refuse_unused_options(canary=canary, call_out=call_out, fix=fix, yes=yes)
    if fix:
        call.require_consent(yes=yes)
    with call.connection() as connection:
        doctor_run = DoctorRun(call, connection, checks)
        view = DoctorView(doctor_run.run_checks(), call.target, strict)
        if fix:
            view = doctor_run.run_fixes(view, yes=yes)
        return view.after(doctor_run.run_canary(canary_checks, call_out=call_out)) if canary else view


def _refuse_unused_options(*, canary: bool, call_out: bool, fix: bool, yes: bool) -> None:
    if call_out and not canary:
        raise click.UsageError("--call-out requires --canary")
    if yes and not fix:
        raise click.UsageError("--yes requires --fix")


@dataclass(frozen=True)
class DoctorRun:
    """One run of the doctor, on one connection."""

    call: Call
    connection: psycopg.Connection[Any]
    checks: tuple[Definition, ...]

    @functools.cached_property
    def _known(self) -> tuple[Settings, bool]:
        from usersync.manage.checking import known_settings  # noqa: PLC0415 - only if used

        if self.call.settings_source != DEFAULTS:
            return self.call.settings, True
        return known_settings(self.connection, self.call.settings)

    def run_checks(self) -> tuple[Check, ...]:
        from usersync.manage.checking import check  # noqa: PLC0415 - only if used

        return check(self.connection, self.call.dsn, *self._known, self.checks)

    def run_canary(self, checks: tuple[CanaryCheck, ...], *, call_out: bool) -> CanaryResult:
        from usersync.manage.checking import canary_checks  # noqa: PLC0415 - only if used

        self.call.output.tell(f"Trying sign-ups on {self.call.target}; each is rolled back.")
        return CanaryResult(*canary_checks(self.connection, self._known[0], checks, call_out=call_out))

    def run_fixes(self, found: DoctorView, *, yes: bool) -> DoctorView:
        """Show the safe fixes, ask, run them, and run the checks again."""
        from usersync.doctor.fixes import remedies, sql_of  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        wanted = remedies(found.checks)
        if not wanted:
            return found
        scripts = [run(sql_of(self._known[0], each), self.connection) for each in wanted]
        for remedy, script in zip(wanted, scripts, strict=True):
            self.call.output.say(*remedy_lines(remedy, script))
        if not yes:
            self.call.ask(f"Run {count(len(wanted), 'fix', 'fixes')} in {self.call.target}?")
        results = tuple(map(self._run_fix, wanted, scripts))
        if done := [each for each in results if each.error is None]:
            codes = sorted({code for each in done for code in each.codes})
            self.call.record_act("usersync.fixes_run", fixes=len(done), checks=codes)
        return replace(found, checks=self.run_checks(), fix_results=results)

    def _run_fix(self, remedy: Remedy, script: str) -> FixResult:
        from usersync.doctor.fixes import run_fix  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        try:
            run(run_fix(self._known[0], remedy), self.connection)
        except ConnectionFailedError:
            raise
        except UsersyncError as error:
            # A failed fix must not prevent the other fixes.
            return FixResult(remedy.codes, remedy.fix, script, str(error))
        return FixResult(remedy.codes, remedy.fix, script)
