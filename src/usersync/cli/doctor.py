"""``usersync doctor``: numbered checks. Each problem comes with its fix."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.doctor_view import CanaryResult, DoctorView, FixResult, remedy_lines
from usersync.cli.options import DEFAULTS, Call, common_options, examples
from usersync.cli.text import count
from usersync.errors import ConnectionFailedError, UsersyncError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from usersync.audit.spool.listing import SpoolSurvey
    from usersync.cli.output import View
    from usersync.config.settings import Settings
    from usersync.doctor.context import CanaryCheck, Definition, OtherSpool, Spool
    from usersync.doctor.fixes import Remedy
    from usersync.models import Check


def _codes(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(code.strip().upper() for code in (value or "").split(",") if code.strip())


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
    "--only", "codes", callback=_codes, metavar="CODES", help="Only these checks, for example D004,D017."
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
        from usersync.doctor.applied_settings import applied_settings  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

        if self.call.settings_source != DEFAULTS:
            return self.call.settings, True
        return run(applied_settings(self.call.settings), self.connection)

    def run_checks(self) -> tuple[Check, ...]:
        from usersync.doctor import examine  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        if not self.checks:
            return ()
        settings, order_known = self._known
        # Behind a pooler, this is not the pid of the server's process (D023).
        pid = self.connection.info.backend_pid
        spool = _spool(self.call.dsn)
        plan = examine(settings, self.checks, client_pid=pid, order_known=order_known, spool=spool)
        return run(plan, self.connection)

    def run_canary(self, checks: tuple[CanaryCheck, ...], *, call_out: bool) -> CanaryResult:
        from usersync.doctor import judge  # noqa: PLC0415 - only if used
        from usersync.doctor.checks.d037_canary_event import try_event  # noqa: PLC0415 - only if used
        from usersync.schema.trial.canary import run_canary  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        self.call.output.tell(f"Trying sign-ups on {self.call.target}; each is rolled back.")
        done = run_canary(self.connection, self._known[0], call_out=call_out)
        done = replace(done, event=run(try_event(self._known[0]), self.connection))
        return CanaryResult(judge(done, checks), done)

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


def _spool(source: str) -> Spool | None:
    """The spooled events for this database. None if this account cannot read the spools."""
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used
    from usersync.audit.spool.address import destination_of  # noqa: PLC0415 - only if used
    from usersync.audit.spool.listing import survey_spools  # noqa: PLC0415 - only if used
    from usersync.doctor.context import Spool  # noqa: PLC0415 - only if used

    home = destination_of(source, None)
    try:
        surveys = survey_spools(default_spool_dir())
    except OSError:
        return None
    own = [each for each in surveys if each.directory.name in {home.directory, home.former}]
    files = [file for each in own for file in each.files]
    moments = [file.oldest_at for file in files if file.oldest_at is not None]
    damaged = [str(path) for each in own for path in each.damaged]
    damaged += [str(file.path) for file in files if file.problem is not None]
    damaged += [str(each.directory) for each in own if each.problem is not None]
    return Spool(
        next((each.directory.name for each in own if each.waiting), home.directory),
        sum(file.waiting for file in files),
        sum(file.waiting for file in files if not file.owned),
        min(moments, default=None),
        sum(file.refused_count for file in files),
        tuple(damaged),
        tuple(_other_spools(each for each in surveys if each not in own)),
    )


def _other_spools(surveys: Iterable[SpoolSurvey]) -> Iterator[OtherSpool]:
    from usersync.doctor.context import OtherSpool  # noqa: PLC0415 - only if used

    for survey in surveys:
        waiting: Counter[str] = Counter()
        for file in survey.files:
            if file.installation is not None and not file.owned:
                waiting[file.installation] += file.waiting
        yield from (
            OtherSpool(survey.directory.name, count, each) for each, count in waiting.items() if count
        )
