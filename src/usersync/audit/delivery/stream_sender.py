"""Publishes a batch of events to NATS JetStream, as one message: an envelope.

``usersync worker --ingest`` stores the events of the envelopes in the database. So an event that this sender
has delivered is stored in a majority of the stream's replicas, and maybe not yet in the database.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from usersync.audit.delivery.protocol import RefusedError, UnavailableError
from usersync.audit.delivery.sender import IDLE_S, Receipt, now_ms
from usersync.audit.spool.binding import WrongDatabaseError
from usersync.core.position import DatabasePosition

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.connection import Connection

T = TypeVar("T")

_log = logging.getLogger("usersync.audit")

#: Room for the headers of a message.
_HEADER_BYTES = 1024
#: How often the sender checks that the stream is still the same one.
_LOOK_MS = 10_000
#: A node that ends does not answer. Sending a batch again is safe, because it keeps its id.
_ANSWER_S = 5.0

_NO_STREAM = (
    "{reason}. 'usersync worker --ingest' creates the stream: start it. Until then, the spool keeps events, "
    "up to its limit"
)


def envelope(payloads: list[bytes]) -> bytes:
    """Events as the body of one message: one in each line."""
    # A line break in an event is white space: JSON escapes those in values.
    return b"\n".join(each.replace(b"\n", b" ") for each in payloads)


def events_of(body: bytes) -> list[bytes]:
    """The events of an envelope."""
    return [line for line in body.split(b"\n") if line.strip()]


class _Loop(asyncio.SelectorEventLoop):
    """A loop that starts no thread, because Python starts none at the interpreter's exit."""

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        """Resolve a host name in this thread, which has nothing else to do."""
        return socket.getaddrinfo(*args, **options)


class StreamSender:
    """A sender for the writer's thread. It creates its connection and its event loop in this thread.

    It publishes a batch once. The writer waits and retries, as it does for a PostgreSQL connection.
    """

    required_probes = 1

    def __init__(self, address: StreamAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._name = address.ingest_stream
        self._runner: asyncio.Runner | None = None
        self._connection: Connection | None = None
        self._used_at = 0.0
        #: The sequence number of the last message. A smaller one means that the stream was created again.
        self._last = 0
        #: The generations of the stream whose settings were checked.
        self._checked: set[str] = set()
        #: The installation that the stream belongs to. Its timeline changes if the stream was created again,
        #: or if the database failed over: then delivered events may be lost, and are sent again.
        self.position: DatabasePosition | None = None
        self.answered_ms = 0

    def send(self, payloads: list[bytes], *, belongs_to: str = "*", batch_id: str | None = None) -> Receipt:
        """Publish a batch, and wait until the stream has stored it.

        The stream stores a batch with the same ``batch_id`` once in its duplicate window. Raises
        ``UnavailableError``, and ``RefusedError`` for a batch that is larger than a message may be. Blocks at
        most for the time-out and the connect time-out.
        """
        if payloads:
            self._run(lambda: self._publish(envelope(payloads), belongs_to, batch_id or str(uuid4())))
        return Receipt(len(payloads), 0, 0)

    def locate(self) -> DatabasePosition | None:
        """Read which installation the stream belongs to. Raises ``UnavailableError``."""
        self._run(self._look)
        return self.position

    def takes_events(self) -> bool:
        """False: a stream stores every event that is not too large, so no single event causes a failure."""
        return False

    async def _publish(self, body: bytes, belongs_to: str, batch_id: str) -> None:
        connection = await self._opened()
        if now_ms() - self.answered_ms >= _LOOK_MS:
            await self._look()
        if belongs_to != "*" and not f"{self.position} ".startswith(f"{belongs_to} "):
            raise WrongDatabaseError(f"the stream belongs to another database than {belongs_to}")
        if len(body) + _HEADER_BYTES > connection.max_payload:
            raise RefusedError(f"larger than the server's max_payload ({connection.max_payload:,} bytes)")
        stored = await connection.publish(
            f"{self._name}.events",
            body,
            batch_id,
            headers={"Content-Type": "application/x-ndjson"},
            limit=min(self._timeout, _ANSWER_S),
        )
        if stored.number <= self._last and not stored.is_duplicate:
            # Another stream of this name: the next call reads its metadata.
            self.position = None
        self._last = stored.number

    async def _look(self) -> None:
        from usersync.transports.jetstream.stream import INGEST, find, risks  # noqa: PLC0415 - needs an extra

        stream = await find(await self._opened(), f"{self._name}.events")
        self.answered_ms = now_ms()
        self.position = (
            DatabasePosition(stream.installation, "0/0", stream.generation) if stream.installation else None
        )
        if stream.generation not in self._checked:
            self._checked.add(stream.generation)
            for each in risks(stream, INGEST):
                _log.warning("the stream %s can lose events. %s", stream.name, each)

    async def _opened(self) -> Connection:
        from usersync.transports.jetstream.connection import connect  # noqa: PLC0415 - needs an extra

        if self._connection is None or not self._connection.is_open:
            self._connection = await connect(self._address, "audit log")
        return self._connection

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        from usersync.transports.jetstream import connection as jetstream  # noqa: PLC0415 - needs an extra

        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=_Loop)
        self._used_at = time.monotonic()
        try:
            return self._runner.run(work())
        except jetstream.TooLargeError as error:
            problem: Exception = RefusedError(str(error))
        except jetstream.NoStreamError as error:
            # A leader is being elected, or the stream was deleted. The next attempt reads its metadata.
            self.position = None
            problem = UnavailableError(_NO_STREAM.format(reason=error))
        except jetstream.StreamError as error:
            self.close()
            problem = UnavailableError(str(error))
        except (RefusedError, WrongDatabaseError):
            raise
        except BaseException:
            self.close()
            raise
        raise problem

    def close_if_idle(self) -> None:
        """Close a connection that has been idle for long. Called while no events wait."""
        if self._connection is not None and time.monotonic() - self._used_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connection. The next batch opens a new one."""
        runner, self._runner = self._runner, None
        connection, self._connection = self._connection, None
        if runner is not None:
            with suppress(Exception), runner:
                if connection is not None:
                    runner.run(connection.close())

    def descriptors(self) -> list[int]:
        """Empty: inherited sockets hold no locks, and a child that closes them does not end a connection."""
        return []
