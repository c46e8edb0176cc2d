"""The test event that ``usersync subscriptions test`` sends. It is not in the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from usersync.audit.models import NumberedEvent
from usersync.events.delivery import AttemptOutcome

if TYPE_CHECKING:
    from usersync.events.delivery import Delivery

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


async def send_to(delivery: Delivery) -> AttemptOutcome:
    """Send a test event with a delivery, and close it."""
    try:
        found = delivery.deliver(sample_event(), 1)
        return found if isinstance(found, AttemptOutcome) else await found
    finally:
        await delivery.close()
