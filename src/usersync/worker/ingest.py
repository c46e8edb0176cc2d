"""Takes envelopes of events from a stream and stores the events in the database.

A message is acknowledged after the commit, and an event is stored once, however often it is sent. So no event
is lost or doubled, whichever process or server ends when. Any number of workers may share a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit.delivery.delivery import Delivery
from usersync.audit.delivery.protocol import StuckError, UnavailableError
from usersync.audit.delivery.sender import Sender
from usersync.audit.delivery.stats import Counters
from usersync.audit.delivery.stream_sender import events_of
from usersync.audit.options import Options, default_spool_dir
from usersync.audit.spool.address import destination_of
from usersync.audit.spool.binding import WrongDatabaseError
from usersync.audit.spool.directory import SpoolDirectory
from usersync.audit.spool.intake import Intake
from usersync.audit.spool.source import Entry, fitting
from usersync.transports.jetstream.address import INGEST_STREAM
from usersync.transports.jetstream.connection import Connection, StreamError, connect
from usersync.transports.jetstream.stream import (
    INGEST,
    INSTALLATION,
    POSITION,
    find_or_create,
    note_position,
    risks,
)
from usersync.worker.attempts import describe

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.msg import Msg

    from usersync.core.position import DatabasePosition
    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.connection import Pull
    from usersync.transports.jetstream.stream import Stream

logger = logging.getLogger("usersync.worker")

#: The name of the consumer that all workers share.
CONSUMER = "usersync"
#: After so many seconds without a word from a worker, its messages are delivered to another one.
ACK_WAIT_S = 10.0
#: So many messages are taken at a time, and as many while these are stored.
AT_ONCE = 16
_FETCH_S = 1.0
#: How often the worker says that it still works on its messages.
_BEAT_S = ACK_WAIT_S / 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0
#: After so many attempts in a row, the messages are left to workers that may reach the database.
_ATTEMPTS = 3
#: How long a batch may take in the database.
_SEND_S = 20.0


class Ingest:
    """Stores what comes, until it is told to stop. Of one thread."""

    def __init__(self, dsn: str, address: StreamAddress, stopping: threading.Event) -> None:
        self._address = address
        self._name = address.stream or INGEST_STREAM
        self._stopping = stopping
        self._sender = Sender(dsn, _SEND_S)
        self._counters = Counters()
        options = Options(keep_delivered=0)
        self._delivery = Delivery(self._sender, options, self._counters)
        destination = destination_of(dsn, None)
        directory = SpoolDirectory(Path(default_spool_dir()) / destination.directory)
        #: For events that the database takes in no form.
        self._quarantine = Intake(directory, options, self._counters, destination, maintained=False)
        self._position: DatabasePosition | None = None

    def run(self) -> None:
        """Store until ``stopping`` is set. Raises nothing that may end."""
        with closing(self._sender), closing(self._quarantine):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._follow()
            except Exception as error:
                if self._stopping.is_set():
                    return
                # A connection that held for a while is no failure in a row.
                failures = failures + 1 if time.monotonic() - began < _LONGEST_WAIT_S else 1
                is_known = isinstance(error, StreamError | UnavailableError | psycopg.Error | OSError)
                text = describe(error)
                logger.warning("events of %s are not stored: %s", self._address, text, exc_info=not is_known)
                await self._rest(_wait(failures))

    async def _follow(self) -> None:
        """Connect, and store what comes. Raises what ended it."""
        position = await asyncio.to_thread(self._sender.locate)
        if position is None:
            raise UnavailableError("the database has no installation id: run usersync apply")
        connection = await connect(self._address, "worker")
        try:
            metadata = {INSTALLATION: position.installation, POSITION: str(position)}
            stream = await find_or_create(connection, self._name, INGEST, metadata)
            for each in risks(stream, INGEST):
                logger.warning("the stream %s can lose events. %s", stream.name, each)
            stream = await self._note(connection, stream, position)
            pull = await self._consumer(connection, stream)
            logger.info("storing the events of %s, stream %s", self._address, stream.name)
            await self._store_all(connection, stream, pull)
        finally:
            await connection.close()

    async def _note(self, connection: Connection, stream: Stream, position: DatabasePosition) -> Stream:
        """Tell applications that the database has moved: they send again what they delivered lately."""
        self._position = position
        try:
            return await note_position(connection, stream, str(position))
        except StreamError as error:
            logger.warning("the metadata of the stream %s cannot be changed: %s", stream.name, error)
            return stream

    async def _consumer(self, connection: Connection, stream: Stream) -> Pull:
        pull = await connection.pull(stream.name, CONSUMER, ack_wait=ACK_WAIT_S)
        if pull.most_deliveries > 0:
            logger.warning(
                "the consumer %s of the stream %s can lose events: JetStream delivers a message %s times at "
                "most. Set max_deliver of the consumer to -1.",
                CONSUMER,
                stream.name,
                pull.most_deliveries,
            )
        return pull

    async def _store_all(self, connection: Connection, stream: Stream, pull: Pull) -> None:
        following = asyncio.ensure_future(pull.fetch(AT_ONCE, _FETCH_S))
        try:
            while not self._stopping.is_set():
                messages = await following
                # The next messages come while these are stored.
                following = asyncio.ensure_future(pull.fetch(AT_ONCE, _FETCH_S))
                if messages:
                    await self._store(connection, messages)
                position = self._sender.position
                if position is not None and position != self._position:
                    stream = await self._note(connection, stream, position)
        finally:
            with suppress(StreamError):
                await connection.give_back([*(await following), *(await pull.end())])
                await connection.flush()

    async def _store(self, connection: Connection, messages: Sequence[Msg]) -> None:
        """Store the events of messages, and acknowledge them. Gives back those that it cannot store."""
        source = Envelopes([events_of(each.data) for each in messages], self._position, self._keep)
        done = failures = 0
        async with _kept(connection, messages):
            while done < len(messages):
                problem: Exception | None = None
                try:
                    await asyncio.to_thread(self._deliver, source)
                except (UnavailableError, psycopg.Error, OSError) as error:
                    problem = error
                await connection.acknowledge(messages[done : source.finished])
                done = source.finished
                if problem is None:
                    continue
                failures += 1
                # If an event is the cause, other workers would fail, too. After some attempts it is isolated.
                is_stuck = isinstance(problem, StuckError)
                if self._stopping.is_set() or (failures >= _ATTEMPTS and not is_stuck):
                    await connection.give_back(messages[done:])
                    await connection.flush()
                    raise problem
                logger.warning("events of %s are not stored yet: %s", self._address, describe(problem))
                await self._rest(_wait(failures))
        await connection.flush()

    def _deliver(self, source: Envelopes) -> None:
        while source.done < source.last and not self._stopping.is_set():
            self._delivery.deliver(source)
        if source.done < source.last:
            raise UnavailableError("the worker ends")

    def _keep(self, payload: bytes, reason: str) -> None:
        spool = self._quarantine.open_spool()
        if spool is None:
            raise OSError(f"an event cannot be quarantined: {self._counters.spool_error}")
        spool.add_quarantined([(time.time_ns() // 1_000_000, payload, reason)])

    async def _rest(self, seconds: float) -> None:
        await asyncio.to_thread(self._stopping.wait, seconds)


class Envelopes:
    """The events of some messages, as a source for a ``Delivery``."""

    def __init__(
        self,
        messages: Sequence[Sequence[bytes]],
        position: DatabasePosition | None,
        keep: Callable[[bytes, str], None],
    ) -> None:
        payloads = [payload for events in messages for payload in events]
        self._entries = list(enumerate(payloads, 1))
        self._ends: list[int] = []
        for events in messages:
            self._ends.append((self._ends[-1] if self._ends else 0) + len(events))
        self._keep = keep
        self.last = len(payloads)
        self.done = 0
        self.binding: Any = StreamBinding(position)

    @property
    def finished(self) -> int:
        """How many of the messages are done, from the first on."""
        return sum(end <= self.done for end in self._ends)

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``Source``."""
        waiting = self._entries[self.done : self.done + events]
        return fitting(((number, payload, b"blob") for number, payload in waiting), size)

    def name_batch(self, through: int) -> str:
        """See ``Source``. The database needs no id of a batch."""
        raise NotImplementedError(through)

    def discard(self, through: int, size: int = 0) -> None:  # noqa: ARG002 - see Source
        """See ``Source``."""
        self.done = through

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Keep the event in this machine's spool."""
        self._keep(entry.payload, reason)
        self.done = entry.number


class StreamBinding:
    """Binds the events of a stream to the installation that the stream is for."""

    def __init__(self, position: DatabasePosition | None) -> None:
        self._position = position

    def check_database(self, position: DatabasePosition | None) -> str:
        """See ``DatabaseBinding``."""
        expected = self._position
        if expected is None or position is None or position.installation != expected.installation:
            raise WrongDatabaseError("the stream is for another database than the connected one")
        return expected.installation


def _wait(failures: int) -> float:
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads attempts


@contextlib.asynccontextmanager
async def _kept(connection: Connection, messages: Sequence[Msg]) -> AsyncIterator[None]:
    """Say from time to time that the messages are worked on, so that no other worker gets them."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            await connection.hold(messages)

    beating = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await beating
