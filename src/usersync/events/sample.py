"""The test event that ``usersync subscriptions test`` sends. It is not in the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from usersync.audit.models import NumberedEvent

SAMPLE_ACTION = "usersync.test"


def sample_event() -> NumberedEvent:
    """A test event that occurred now."""
    now = datetime.now(UTC)
    known = {
        "id": uuid4(),
        "occurred_at": now,
        "recorded_at": now,
        "action": SAMPLE_ACTION,
        "source": "usersync",
    }
    return NumberedEvent(**dict.fromkeys(NumberedEvent.__dataclass_fields__) | known)  # type: ignore[arg-type]
