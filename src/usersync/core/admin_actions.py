"""Records administrative actions of usersync in the audit log: who, when, how many rows."""

from __future__ import annotations

import getpass
import json
import platform
from typing import TYPE_CHECKING, Any

from usersync.core.audit_log import has_events, has_log
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


def account() -> str:
    """The operating system's account and host. A database role is often shared."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"{name}@{platform.node()}"


def record_admin_action(
    settings: Settings, action: str, *, by: str, begins_log: bool = False, **details: Any
) -> Steps[bool]:
    """Record the action if the audit log has events. Returns whether it was recorded.

    A log without events is new, or is about to be removed by ``rollback``: usersync records nothing in it,
    unless the action itself starts its use (``begins_log``).
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
