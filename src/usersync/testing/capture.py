"""Events of the code under test, without a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.capture import captured

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from usersync.audit.models import EventRecord


def captured_events() -> AbstractContextManager[list[EventRecord]]:
    """Collect the events that every ``AuditLog`` of this process records in the block, and do not store them.

    Logs that the application created at import are included. For one log: ``AuditLog.captured()``.
    """
    return captured()
