"""The checks of ``usersync doctor``, on one connection."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from usersync.doctor.context import OtherSpool, Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from usersync.audit.spool.listing import SpoolSurvey
    from usersync.config.settings import Settings
    from usersync.doctor.context import CanaryCheck, Definition
    from usersync.models import Check
    from usersync.schema.trial.observation import Trial


def known_settings(connection: psycopg.Connection[Any], otherwise: Settings) -> tuple[Settings, bool]:
    """The settings that usersync was last applied with, or ``otherwise``; see ``applied_settings()``."""
    from usersync.doctor.applied_settings import applied_settings  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

    return run(applied_settings(otherwise), connection)


def check(
    connection: psycopg.Connection[Any],
    dsn: str,
    settings: Settings,
    order_known: bool,
    checks: tuple[Definition, ...],
) -> tuple[Check, ...]:
    """Run these checks."""
    from usersync.doctor import examine  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - only if used

    if not checks:
        return ()
    # Behind a pooler, this is not the pid of the server's process (D023).
    pid = connection.info.backend_pid
    plan = examine(settings, checks, client_pid=pid, order_known=order_known, spool=spool_of(dsn))
    return run(plan, connection)


def canary_checks(
    connection: psycopg.Connection[Any],
    settings: Settings,
    checks: tuple[CanaryCheck, ...],
    *,
    call_out: bool,
) -> tuple[tuple[Check, ...], Trial]:
    """Run the canary. Returns the checks of its results, and the results."""
    from usersync.doctor import judge  # noqa: PLC0415 - only if used
    from usersync.doctor.checks.d037_canary_event import try_event  # noqa: PLC0415 - only if used
    from usersync.schema.trial.canary import run_canary  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - only if used

    done = run_canary(connection, settings, call_out=call_out)
    done = replace(done, event=run(try_event(settings), connection))
    return judge(done, checks), done


def spool_of(source: str) -> Spool | None:
    """The spooled events for this database. None if this account cannot read the spools."""
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used
    from usersync.audit.spool.address import destination_of  # noqa: PLC0415 - only if used
    from usersync.audit.spool.listing import survey_spools  # noqa: PLC0415 - only if used

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
        sum(file.quarantined_events for file in files),
        tuple(damaged),
        tuple(_other_spools(each for each in surveys if each not in own)),
    )


def _other_spools(surveys: Iterable[SpoolSurvey]) -> Iterator[OtherSpool]:
    for survey in surveys:
        waiting: Counter[str] = Counter()
        for file in survey.files:
            if file.installation is not None and not file.owned:
                waiting[file.installation] += file.waiting
        yield from (
            OtherSpool(survey.directory.name, count, each) for each, count in waiting.items() if count
        )
