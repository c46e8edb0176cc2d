"""Whether the audit log stores an event: the canary records one and rolls it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

from usersync.core.audit_log import has_log
from usersync.doctor.context import CanaryCheck, SkipCheckError, Verdict
from usersync.errors import ConnectionFailedError, NotInstalledError, UsersyncError
from usersync.models import Finding
from usersync.transports.steps import BEGIN, ROLLBACK, query, query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.schema.trial.observation import Trial
    from usersync.transports.steps import Steps

_SHORT = (
    "set local statement_timeout = '3s'; set local lock_timeout = '1s'; set local search_path = pg_catalog"
)

#: The fix by SQLSTATE: for a missing privilege, for a missing object.
_FIXES = {
    "42501": "usersync doctor --only D008",
    **dict.fromkeys(("42704", "42P01", "42883"), "usersync apply"),
}


def try_event(settings: Settings) -> Steps[Verdict | str]:
    """Record an event in a transaction that is rolled back. The connection must not be in a transaction.

    Returns the reason if there is no log.
    """
    table = settings.audit_table
    function = yield from query_row(
        "select to_regprocedure('public.record_audit_events(jsonb)') is not null as found"
    )
    if not function["found"] or not (yield from has_log(settings)):
        return "there is no audit log"
    yield BEGIN
    try:
        finding = yield from _recorded(settings)
    except ConnectionFailedError:
        raise
    except NotInstalledError as error:
        finding = _cannot(settings, str(error), "42P01")
    except UsersyncError as error:
        finding = _cannot(settings, str(error), getattr(error, "sqlstate", None))
    yield ROLLBACK
    return Verdict(f"{table} stored an event, which was rolled back", (finding,) if finding else ())


def _recorded(settings: Settings) -> Steps[Finding | None]:
    yield from query(_SHORT)
    event = {"id": str(uuid4()), "action": "usersync.canary", "actor_type": "system"}
    row = yield from query_row(
        "select public.record_audit_events(%(events)s::jsonb) as answer", events=json.dumps([event])
    )
    answer = row["answer"]
    if answer["stored"] == 1:
        return None
    reasons = "; ".join(each["reason"] for each in answer.get("rejects") or ())
    return _cannot(settings, f"the event was rejected: {reasons or 'no reason is known'}", None)


def _cannot(settings: Settings, why: str, sqlstate: str | None) -> Finding:
    fix = _FIXES.get(sqlstate or "", "usersync doctor --only D003,D006,D008,D024,D025")
    return Finding(
        "D037", f"table {settings.audit_table}", f"{settings.audit_table} stores no event: {why}", fix
    )


def judge(trial: Trial) -> Verdict:
    if not isinstance(trial.event, Verdict):
        raise SkipCheckError(str(trial.event or "not tried"))
    return trial.event


CHECK = CanaryCheck("D037", "Canary: an event in the audit log", judge)
