"""Consumes envelopes of events from a stream and stores the events in the database.

A message is acknowledged after the commit, and an event is stored once, however often it is delivered. So no
event is lost or doubled, even if a process or a server is killed. Any number of workers can share a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit.delivery.delivery import SpoolDelivery
from usersync.audit.delivery.protocol import StuckError, UnavailableError
from usersync.audit.delivery.sender import Sender
from usersync.audit.delivery.stream_sender import events_of
from usersync.audit.options import Options, default_spool_dir
from usersync.audit.spool.address import destination_of
from usersync.audit.spool.binding import WrongDatabaseError
from usersync.audit.spool.directory import SpoolDirectory
from usersync.audit.spool.intake import Intake
from usersync.audit.spool.source import Entry, fitting
from usersync.config.dsn import database_address
from usersync.core.home import Home
from usersync.core.position import DatabasePosition
from usersync.errors import SettingsError
from usersync.transports.backoff import wait_before
from usersync.transports.jetstream.connection import Connection, StreamError, connect
from usersync.transports.jetstream.stream import (
    ADDRESS,
    INGEST,
    INGEST_CONSUMER,
    INSTALLATION,
    POSITION,
    check_installation,
    find,
    find_or_create,
    renew,
    risks,
    write_home,
)
from usersync.worker.attempts import describe
from usersync.worker.garbage import Garbage

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator, Callable, Sequence

    from nats.aio.msg import Msg

    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.connection import PullConsumer
    from usersync.transports.jetstream.stream import Stream
    from usersync.worker.ingest_monitor import IngestMonitor

logger = logging.getLogger("usersync.worker")

#: JetStream redelivers messages that a worker has not acknowledged for this many seconds.
ACK_WAIT_S = 10.0
#: The number of messages in a fetch. The next fetch runs while these messages are stored.
FETCH_MESSAGES = 16
_FETCH_S = 1.0
#: How often a worker reads whose the stream is: "resume --ingest" in another database takes it over.
HOME_S = 3.0
#: How often a worker extends the time to acknowledge the messages that it is storing.
_HEARTBEAT_S = ACK_WAIT_S / 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0
#: After this many failed attempts in a row, JetStream redelivers the messages, maybe to another worker.
_ATTEMPTS = 3
#: The command that confirms that the database has moved.
RESUME = "usersync subscriptions resume --ingest"
#: How long a batch may take in the database.
_SEND_S = 20.0


class HeldError(StreamError):
    """The stream belongs to another database. Its messages stay in the stream."""


class Ingest:
    """Stores the events of a stream in the database until ``stopping`` is set. For one thread."""

    def __init__(
        self, dsn: str, address: StreamAddress, stopping: threading.Event, monitor: IngestMonitor
    ) -> None:
        self._address = address
        self._name = address.ingest_stream
        self._database = database_address(dsn)
        #: Whether a stream was used before. The address in its metadata is then up to date.
        self._has_begun = False
        #: Why the stream is held. The log has the reason once.
        self._held = ""
        self._stopping = stopping
        self._sender = Sender(dsn, _SEND_S)
        self._monitor = monitor
        self._counters = monitor.counters
        options = Options(keep_delivered=0)
        self._delivery = SpoolDelivery(self._sender, options, self._counters)
        destination = destination_of(dsn, None)
        directory = SpoolDirectory(Path(default_spool_dir()) / destination.directory)
        #: For events that the database cannot store in any form.
        self._quarantine = Intake(directory, options, self._counters, destination, maintained=False)
        self._garbage = Garbage(self._counters, self._quarantine_event)
        self._position: DatabasePosition | None = None

    def run(self) -> None:
        """Store events until ``stopping`` is set. Retries after errors."""
        with closing(self._sender), closing(self._quarantine):
            asyncio.run(self._serve_and_watch())

    async def _serve_and_watch(self) -> None:
        watching = asyncio.ensure_future(self._monitor.run(self._stopping))
        try:
            await self._serve()
        finally:
            # It ends by itself, because `stopping` is set. A failure of the ingestion ends the worker.
            self._stopping.set()
            await watching

    async def _serve(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._connect_and_store()
            except Exception as error:
                if self._stopping.is_set():
                    return
                self._monitor.failed(error, ends=True)
                # After a connection that worked for a while, count the failures from 1 again.
                failures = failures + 1 if time.monotonic() - began < _LONGEST_WAIT_S else 1
                if not isinstance(error, HeldError) or self._held != str(error):
                    is_known = isinstance(error, StreamError | UnavailableError | psycopg.Error | OSError)
                    text = describe(error)
                    logger.warning(
                        "events of %s are not stored: %s", self._address, text, exc_info=not is_known
                    )
                self._held = str(error) if isinstance(error, HeldError) else ""
                await self._sleep(wait_before(failures, _FIRST_WAIT_S, _LONGEST_WAIT_S))

    async def _connect_and_store(self) -> None:
        """Connect, and store events until ``stopping`` is set. Raises the error that ended the connection."""
        position = await asyncio.to_thread(self._sender.locate)
        if position is None:
            raise UnavailableError("the database has no installation id: run usersync apply")
        connection = await connect(self._address, "worker")
        try:
            metadata = {
                INSTALLATION: position.installation,
                POSITION: str(position),
                ADDRESS: self._database,
            }
            stream = await find_or_create(connection, self._name, INGEST, metadata)
            # Before anything else: a copy of the database must not change the stream of production.
            stream = await self._settle(connection, stream, position)
            for each in risks(stream, INGEST):
                logger.warning("the stream %s can lose events. %s", stream.name, each)
            consumer = await self._consumer(connection, stream)
            logger.info("storing the events of %s, stream %s", self._address, stream.name)
            self._monitor.storing()
            await self._store_all(connection, stream, consumer)
        finally:
            await connection.close()

    async def _settle(self, connection: Connection, stream: Stream, position: DatabasePosition) -> Stream:
        """Write the database's position and address into the stream, if this database is its home.

        If the position has changed, applications send events again. Raises ``HeldError`` in a copy.
        """
        here, home = Home(position.cluster, self._database), home_of(stream)
        if not home.is_at(here):
            raise HeldError(
                f"the stream {stream.name} {home.describe_other(here)}. Its messages stay in the stream. "
                f"If this database replaces the other one: {RESUME}"
            )
        self._position = position
        new = home.at(here, begins=not self._has_begun)
        try:
            stream = await write_home(connection, stream, str(position), new.address)
        except StreamError as error:
            logger.warning("the metadata of the stream %s cannot be changed: %s", stream.name, error)
        self._has_begun = True
        return stream

    async def _consumer(self, connection: Connection, stream: Stream) -> PullConsumer:
        consumer = await connection.pull_consumer(stream.name, INGEST_CONSUMER, ack_wait=ACK_WAIT_S)
        if consumer.max_deliver > 0:
            logger.warning(
                "the consumer %s of the stream %s can lose events: JetStream delivers a message %s times at "
                "most. Set max_deliver of the consumer to -1.",
                INGEST_CONSUMER,
                stream.name,
                consumer.max_deliver,
            )
        return consumer

    async def _store_all(self, connection: Connection, stream: Stream, consumer: PullConsumer) -> None:
        following = asyncio.ensure_future(consumer.fetch(FETCH_MESSAGES, _FETCH_S))
        settled = time.monotonic()
        try:
            while not self._stopping.is_set():
                messages = await following
                position = self._sender.position or self._position
                if position is not None and (
                    position != self._position or time.monotonic() - settled >= HOME_S
                ):
                    # Before the messages are stored. Raises if they belong to another database now.
                    stream = await self._settle(connection, await renew(connection, stream), position)
                    settled = time.monotonic()
                # Fetch the next messages while these are stored.
                following = asyncio.ensure_future(consumer.fetch(FETCH_MESSAGES, _FETCH_S))
                if messages:
                    await self._store(connection, messages)
        finally:
            with suppress(StreamError):
                await connection.nak([*(await following), *(await consumer.end())])
                await connection.flush()

    async def _store(self, connection: Connection, messages: Sequence[Msg]) -> None:
        """Store the events of messages, and acknowledge the messages. Naks those that it cannot store."""
        source = Envelopes(
            [self._garbage.without(events_of(each.data)) for each in messages],
            self._position,
            self._quarantine_event,
        )
        done = failures = 0
        async with _heartbeat(connection, messages):
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
                # If an event is the cause, other workers would fail, too. It is isolated after some attempts.
                is_stuck = isinstance(problem, StuckError)
                if self._stopping.is_set() or (failures >= _ATTEMPTS and not is_stuck):
                    await connection.nak(messages[done:])
                    await connection.flush()
                    raise problem
                self._monitor.failed(problem)
                logger.warning("events of %s are not stored yet: %s", self._address, describe(problem))
                await self._sleep(wait_before(failures, _FIRST_WAIT_S, _LONGEST_WAIT_S))
        await connection.flush()

    def _deliver(self, source: Envelopes) -> None:
        while source.done < source.last and not self._stopping.is_set():
            self._delivery.deliver(source)
        if source.done < source.last:
            raise UnavailableError("the worker is stopping")

    def _quarantine_event(self, payload: bytes, reason: str) -> None:
        spool = self._quarantine.open_spool()
        if spool is None:
            raise OSError(f"an event cannot be quarantined: {self._counters.spool_error}")
        spool.add_quarantined([(time.time_ns() // 1_000_000, payload, reason)])

    async def _sleep(self, seconds: float) -> None:
        await asyncio.to_thread(self._stopping.wait, seconds)


class Envelopes:
    """The events of several messages, as a source for a ``SpoolDelivery``."""

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
        self._quarantine_event = keep
        self.last = len(payloads)
        self.done = 0
        self.binding: Any = StreamBinding(position)

    @property
    def finished(self) -> int:
        """How many of the messages are done. They are done in their order."""
        return sum(end <= self.done for end in self._ends)

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``EventSource``."""
        waiting = self._entries[self.done : self.done + events]
        return fitting(((number, payload, b"blob") for number, payload in waiting), size)

    def name_batch(self, through: int) -> str:
        """See ``EventSource``. Only streams need the id of a batch."""
        raise NotImplementedError(through)

    def discard(self, through: int, size: int = 0) -> None:  # noqa: ARG002 - see Source
        """See ``EventSource``."""
        self.done = through

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Quarantine the event in the spool of this machine."""
        self._quarantine_event(entry.payload, reason)
        self.done = entry.number


class StreamBinding:
    """Binds the events of a stream to the database for which the stream was checked."""

    def __init__(self, position: DatabasePosition | None) -> None:
        self._position = position

    def check_database(self, position: DatabasePosition | None) -> str:
        """See ``DatabaseBinding``."""
        expected = self._position
        if (
            expected is None
            or position is None
            or (position.installation, position.cluster) != (expected.installation, expected.cluster)
        ):
            raise WrongDatabaseError("the stream belongs to another database than the connected one")
        return f"{expected.installation} {expected.cluster}"


def home_of(stream: Stream) -> Home:
    """The database that the metadata of a stream names. Earlier releases wrote no address."""
    position = DatabasePosition.read(stream.metadata.get(POSITION))
    return Home(position.cluster if position is not None else None, stream.metadata.get(ADDRESS))


def take_stream(address: StreamAddress, position: DatabasePosition) -> tuple[str, Home]:
    """Make a database the home of a stream: its workers store the events from now on.

    Returns the name of the stream and its former home. The next worker writes the address. Blocks for seconds
    at most. Raises ``SettingsError`` if the stream does not exist, belongs to another installation, or cannot
    be changed.
    """
    try:
        return asyncio.run(_take(address, position))
    except StreamError as error:
        raise SettingsError(
            f"the stream is not usable: {error}",
            hint="Check the URL and the permissions of the NATS user.",
        ) from None


async def _take(address: StreamAddress, position: DatabasePosition) -> tuple[str, Home]:
    connection = await connect(address, "resume")
    try:
        stream = await find(connection, f"{address.ingest_stream}.>")
        check_installation(stream, position.installation)
        await write_home(connection, stream, str(position), None)
        return stream.name, home_of(stream)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _heartbeat(connection: Connection, messages: Sequence[Msg]) -> AsyncIterator[None]:
    """Extend the time to acknowledge the messages regularly, so that JetStream does not redeliver them."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await connection.in_progress(messages)

    beating = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await beating
