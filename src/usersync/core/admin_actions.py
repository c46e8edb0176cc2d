"""What usersync does because somebody asked for it, in the audit log: who, when, how much."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from usersync.core.audit_log import has_events, has_log
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


def record_admin_action(
    settings: Settings, action: str, *, by: str, begins_log: bool = False, **details: Any
) -> Steps[bool]:
    """Record it if there is an audit log with events; returns whether it is recorded.

    A log without events was made a moment ago, or goes with ``rollback``: it gets none of usersync's own,
    unless the act puts the log to use (``begins_log``).
    """
    there = yield from query_row(
        "select to_regprocedure('usersync.record_admin_action(text, jsonb)') is not null as found"
    )
    has_place = (yield from has_log(settings)) if begins_log else (yield from has_events(settings))
    if not there["found"] or not has_place:
        return False
    row = yield from query_row(
        "select usersync.record_admin_action(%(action)s, %(details)s::jsonb) as recorded",
        action=action,
        details=json.dumps({"by": by, **details}),
    )
    return bool(row["recorded"])
