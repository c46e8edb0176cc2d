"""How much of a stream is not stored yet, as JetStream itself counts it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usersync.transports.jetstream.connection import NoStreamError, connect
from usersync.transports.jetstream.stream import INGEST_CONSUMER, find

if TYPE_CHECKING:
    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.connection import Connection


@dataclass(frozen=True)
class Backlog:
    """The messages of a stream that no worker has acknowledged."""

    #: Not delivered to a worker yet.
    pending: int
    #: Delivered to a worker that has not acknowledged them.
    unacknowledged: int
    #: Those of ``unacknowledged`` that were delivered more than once.
    redelivered: int
    #: For how many seconds the oldest of them all has waited, by the server's clock. 0 if there is none.
    oldest_s: float


async def read_backlog(connection: Connection, name: str) -> Backlog:
    """The backlog of the stream with the subject ``name.events``. Three or four requests.

    Raises ``NoStreamError`` if there is no such stream, and ``StreamError``.
    """
    stream = await find(connection, f"{name}.events")
    try:
        found = await connection.request(f"CONSUMER.INFO.{stream.name}.{INGEST_CONSUMER}")
    except NoStreamError:
        # No worker has read this stream yet.
        found = {"num_pending": stream.messages, "ack_floor": {"stream_seq": 0}, "ts": stream.at}
    pending, unacknowledged = found["num_pending"], found.get("num_ack_pending", 0)
    oldest_s = 0.0
    if pending or unacknowledged:
        # By the server's clock, which answers with its time since NATS 2.10.
        at = datetime.fromisoformat(found["ts"]) if found.get("ts") else datetime.now(UTC)
        oldest_s = await _age(connection, stream.name, found["ack_floor"]["stream_seq"] + 1, at)
    return Backlog(pending, unacknowledged, found.get("num_redelivered", 0), oldest_s)


async def _age(connection: Connection, stream: str, first: int, at: datetime) -> float:
    """The age of the first message from a sequence number on; 0 if it was acknowledged meanwhile."""
    try:
        found = await connection.request(f"STREAM.MSG.GET.{stream}", {"seq": first, "next_by_subj": ">"})
    except NoStreamError:
        return 0.0
    age = at - datetime.fromisoformat(found["message"]["time"])
    return max(age.total_seconds(), 0.0)


def ask_backlog(address: StreamAddress) -> Backlog:
    """Connect, read the backlog, and close the connection. Blocks for seconds. Raises ``StreamError``."""

    async def asked() -> Backlog:
        connection = await connect(address, "metrics")
        try:
            return await read_backlog(connection, address.ingest_stream)
        finally:
            await connection.close()

    return asyncio.run(asked())
