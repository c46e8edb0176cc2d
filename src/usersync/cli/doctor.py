"""``usersync doctor``: everything that can be wrong, numbered, each with the fix."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.doctor_view import DoctorView, Flown, Mended, remedy_lines
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
        ("usersync doctor --canary", "and try sign-ups, to be rolled back"),
        ("usersync doctor --fix", "shows what is safe to fix, and asks"),
    )
)
@click.option("--only", "codes", callback=_codes, metavar="CODES", help="Only these checks, as in D004,D017.")
@click.option("--strict", is_flag=True, help="Let warnings end with exit code 1, too.")
@click.option(
    "--canary",
    is_flag=True,
    help="Also try every kind of sign-up, change and deletion, each rolled back (D033 to D035).",
)
@click.option(
    "--call-out",
    is_flag=True,
    help="Run the canary even if a trigger calls another server or uses up numbers that are data (neither is "
    "rolled back).",
)
@click.option("--fix", is_flag=True, help="Fix what is safe to fix, after showing the SQL.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask. Needed where there is no terminal.")
@common_options
def doctor(
    call: Call, codes: tuple[str, ...], *, strict: bool, canary: bool, call_out: bool, fix: bool, yes: bool
) -> View:
    """Check everything that can be wrong, each with its fix.

    Looks and writes nothing, unless told to --fix. Without a settings file, goes by what the database was set
    up with. Exit code 1 if there is a problem, or nothing could be checked; 3 if the database cannot be
    reached.
    """
    from usersync.doctor import choose, choose_with_canary  # noqa: PLC0415 - only when it is wanted

    checks, birds = choose_with_canary(codes) if canary else (choose(codes), ())
    _refuse_idle_options(canary=canary, call_out=call_out, fix=fix, yes=yes)
    if fix:
        call.require_consent(yes=yes)
    with call.connection() as connection:
        surgery = Surgery(call, connection, checks)
        view = DoctorView(surgery.examine(), call.target, strict)
        if fix:
            view = surgery.mend(view, yes=yes)
        return view.after(surgery.fly(birds, call_out=call_out)) if canary else view


def _refuse_idle_options(*, canary: bool, call_out: bool, fix: bool, yes: bool) -> None:
    if call_out and not canary:
        raise click.UsageError("--call-out is for --canary")
    if yes and not fix:
        raise click.UsageError("--yes is for --fix")


@dataclass(frozen=True)
class Surgery:
    """A call of the doctor's on one connection."""

    call: Call
    connection: psycopg.Connection[Any]
    checks: tuple[Definition, ...]

    @functools.cached_property
    def _known(self) -> tuple[Settings, bool]:
        from usersync.doctor.applied_settings import applied_settings  # noqa: PLC0415 - late, see doctor
        from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help can do without

        if self.call.settings_source != DEFAULTS:
            return self.call.settings, True
        return run(applied_settings(self.call.settings), self.connection)

    def examine(self) -> tuple[Check, ...]:
        from usersync.doctor import examine  # noqa: PLC0415 - late, see doctor
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

        if not self.checks:
            return ()
        settings, order_known = self._known
        # Through a pooler, the process that the driver was told of is none of the server's (D023).
        pid = self.connection.info.backend_pid
        spool = _spool(self.call.dsn)
        plan = examine(settings, self.checks, client_pid=pid, order_known=order_known, spool=spool)
        return run(plan, self.connection)

    def fly(self, checks: tuple[CanaryCheck, ...], *, call_out: bool) -> Flown:
        from usersync.doctor import judge  # noqa: PLC0415 - likewise
        from usersync.doctor.checks.d037_canary_event import try_event  # noqa: PLC0415 - likewise
        from usersync.schema.trial.canary import run_canary  # noqa: PLC0415 - late, see doctor
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

        self.call.output.tell(f"Trying sign-ups on {self.call.target}, to be rolled back")
        done = run_canary(self.connection, self._known[0], call_out=call_out)
        done = replace(done, event=run(try_event(self._known[0]), self.connection))
        return Flown(judge(done, checks), done)

    def mend(self, found: DoctorView, *, yes: bool) -> DoctorView:
        """Show what is safe to be mended, ask, do it, and examine again."""
        from usersync.doctor.fixes import remedies, sql_of  # noqa: PLC0415 - late, see doctor
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

        wanted = remedies(found.checks)
        if not wanted:
            return found
        scripts = [run(sql_of(self._known[0], each), self.connection) for each in wanted]
        for remedy, script in zip(wanted, scripts, strict=True):
            self.call.output.say(*remedy_lines(remedy, script))
        if not yes:
            self.call.ask(f"Run {count(len(wanted), 'fix', 'fixes')} in {self.call.target}?")
        mended = tuple(map(self._mended, wanted, scripts))
        if done := [each for each in mended if each.error is None]:
            codes = sorted({code for each in done for code in each.codes})
            self.call.record_act("usersync.fixes_run", fixes=len(done), checks=codes)
        return replace(found, checks=self.examine(), mended=mended)

    def _mended(self, remedy: Remedy, script: str) -> Mended:
        from usersync.doctor.fixes import run_fix  # noqa: PLC0415 - late, see doctor
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

        try:
            run(run_fix(self._known[0], remedy), self.connection)
        except ConnectionFailedError:
            raise
        except UsersyncError as error:
            # One fix that fails is not to keep the others from being made.
            return Mended(remedy.codes, remedy.fix, script, str(error))
        return Mended(remedy.codes, remedy.fix, script)


def _spool(source: str) -> Spool | None:
    """What waits here for this database; None where this account may not look."""
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - likewise
    from usersync.audit.spool.address import home_of  # noqa: PLC0415 - late, see doctor
    from usersync.audit.spool.listing import survey_spools  # noqa: PLC0415 - likewise
    from usersync.doctor.context import Spool  # noqa: PLC0415 - likewise

    home = home_of(source, None)
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
    from usersync.doctor.context import OtherSpool  # noqa: PLC0415 - likewise

    for survey in surveys:
        waiting: Counter[str] = Counter()
        for file in survey.files:
            if file.installation is not None and not file.owned:
                waiting[file.installation] += file.waiting
        yield from (
            OtherSpool(survey.directory.name, count, each) for each, count in waiting.items() if count
        )
