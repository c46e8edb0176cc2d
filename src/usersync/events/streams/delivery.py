"""Publishes events to a stream."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from usersync.events.delivery import AttemptOutcome
from usersync.events.formats import FORMATS
from usersync.events.streams.subject import subject_of
from usersync.transports.jetstream.address import EVENT_STREAM
from usersync.transports.jetstream.connection import Connection, NoStreamError, StreamError, connect
from usersync.transports.jetstream.stream import EVENTS, INSTALLATION, find_or_create, risks

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.audit.models import NumberedEvent
    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.stream import Stream

logger = logging.getLogger("usersync.worker")

#: Seconds for one attempt. While a new leader is elected, which takes seconds, the event is published again.
TIME_LIMIT_S = 20.0
_ANSWER_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0


class StreamDelivery:
    """Publishes the events of one subscription. One event loop, one connection.

    ``address`` is called when a connection is opened: it decrypts the login. With ``warns``, the log says in
    which ways the stream loses events.
    """

    def __init__(
        self,
        name: str,
        address: Callable[[], StreamAddress],
        installation: str,
        *,
        format_name: str,
        concurrency: int = 64,
        time_limit: float = TIME_LIMIT_S,
        warns: bool = True,
    ) -> None:
        self.concurrency = concurrency
        #: The worker's limit. It is longer than the limit of this class, whose error names the reason.
        self.time_limit = time_limit + 1
        self._limit = time_limit
        self._name = name
        self._address = address
        self._installation = installation
        self._format_name = format_name
        self._warns = warns
        self._connection: Connection | None = None
        self._stream: Stream | None = None
        self._prefix = EVENT_STREAM
        self._opening = asyncio.Lock()

    async def deliver(self, event: NumberedEvent, attempt: int) -> AttemptOutcome:  # noqa: ARG002 - the protocol's
        """Publish an event. Errors of NATS are a failed outcome, never an exception."""
        body, content_type = FORMATS[self._format_name](event)
        payload = body.encode()
        headers = {"Content-Type": content_type}
        loop = asyncio.get_running_loop()
        until, wait = loop.time() + self._limit, _FIRST_WAIT_S
        while True:
            left = until - loop.time()
            try:
                async with asyncio.timeout(left):
                    connection, _ = await self._opened()
                    stored = await connection.publish(
                        subject_of(event, self._prefix),
                        payload,
                        str(event.id),
                        headers=headers,
                        limit=min(_ANSWER_S, left),
                    )
            except NoStreamError as error:
                # A leader is being elected, or the stream was deleted and is created again.
                self._stream = None
                problem = str(error)
            except StreamError as error:
                return AttemptOutcome.failed(str(error))
            except TimeoutError:
                return AttemptOutcome.failed(f"NATS did not answer within {self._limit:g} s")
            else:
                known = ", which had the event already" if stored.is_duplicate else ""
                return AttemptOutcome.succeeded(
                    f"message {stored.number} of the stream {stored.stream}{known}"
                )
            if until - loop.time() < wait:
                return AttemptOutcome.failed(problem)
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 - spreads attempts
            wait = min(wait * 2, _LONGEST_WAIT_S)

    async def check(self) -> tuple[str, tuple[str, ...]]:
        """The name of the stream, which is created if it is missing, and in which ways it loses events.

        Raises ``StreamError``.
        """
        _, stream = await self._opened()
        return stream.name, risks(stream, EVENTS)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _opened(self) -> tuple[Connection, Stream]:
        if self._connection is not None and self._connection.is_open and self._stream is not None:
            return self._connection, self._stream
        async with self._opening:
            if self._connection is None or not self._connection.is_open:
                address = self._address()
                self._prefix = address.stream or EVENT_STREAM
                await self.close()
                self._connection = await connect(address, f"subscription {self._name}")
                self._stream = None
            if self._stream is None:
                self._stream = await find_or_create(
                    self._connection, self._prefix, EVENTS, {INSTALLATION: self._installation}
                )
                for each in risks(self._stream, EVENTS) if self._warns else ():
                    logger.warning(
                        "%s: the stream %s can lose events. %s", self._name, self._stream.name, each
                    )
            return self._connection, self._stream
