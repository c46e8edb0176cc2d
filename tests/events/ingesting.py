"""Events that go through a stream, and questions about those that the table has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from working import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from working import Working

    from nats_server import NatsServer
    from usersync import AuditLog

ENVELOPES = "usersync-in"


def stored(working: Working, action: str = "order.paid") -> dict[int, int]:
    """How often the table has each event, by the event's number."""
    rows = working.owner.execute(
        "select metadata -> 'n', count(*) from public.audit_logs where action = %s group by 1", [action]
    ).fetchall()
    return {int(number): count for number, count in rows}


def record(log: AuditLog, numbers: Iterable[int], action: str = "order.paid") -> None:
    for number in numbers:
        assert log.record(action, entity=("order", number), metadata={"n": number})


def wait_stored(working: Working, numbers: Iterable[int], action: str = "order.paid") -> None:
    """Wait until the table has each event once, and no other event."""
    expected = dict.fromkeys(numbers, 1)
    wait_for(lambda: len(stored(working, action)) >= len(expected), "all events in the table")
    assert stored(working, action) == expected


def wait_for_stream(nats: NatsServer) -> None:
    """A worker has created the stream."""
    wait_for(lambda: nats.ask("STREAM.NAMES").get("streams"), "the stream")


def wait_empty(nats: NatsServer) -> None:
    """Every message is acknowledged."""
    wait_for(
        lambda: nats.ask(f"STREAM.INFO.{ENVELOPES}")["state"]["messages"] == 0, "every message to be done"
    )
