"""The methods of ``AuditLog`` that read the stored log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from psycopg_pool import ConnectionPool

from usersync.audit import feed as feed_operations
from usersync.audit import reading
from usersync.audit.event.entity import FORMS, stored_entity_of
from usersync.audit.models import EventFilter, as_uuid
from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError
from usersync.transports.jetstream.address import StreamAddress
from usersync.transports.processes import ForkSafeLock
from usersync.transports.psycopg import transport_for
from usersync.transports.psycopg_async import AsyncDsnTransport, async_transport_for

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Unpack
    from uuid import UUID

    from usersync.audit.event.entity import Entity
    from usersync.audit.event.fields import Outcome, Severity
    from usersync.audit.models import EventPage, EventRecord, FeedPage
    from usersync.transports.psycopg import Transport
    from usersync.transports.psycopg_async import AsyncTransport
    from usersync.transports.steps import Steps

T = TypeVar("T")


class Reader:
    """Runs operations that read, on connections of its own that are opened at the first read."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._lock = ForkSafeLock()
        self._transport: Transport | None = None
        self._async_transport: AsyncTransport | None = None

    def run(self, operation: Steps[T], *, is_long: bool = False) -> T:
        """Run an operation. A long one gets a connection of its own, so that others do not wait for it."""
        transport = self._blocking()
        return transport.run_separately(operation) if is_long else transport.run(operation)

    async def run_async(self, operation: Steps[T], *, is_long: bool = False) -> T:
        """See ``run()``."""
        if isinstance(self._source, ConnectionPool):
            return await asyncio.to_thread(self.run, operation)
        with self._lock:
            if self._async_transport is None:
                self._async_transport = async_transport_for(self._checked_source())
            transport = self._async_transport
        return await (transport.run_separately(operation) if is_long else transport.run(operation))

    def close(self) -> None:
        """Close the connections of blocking reads and of ended event loops. A later read opens a new one."""
        if self._transport is not None:
            self._transport.close()
        if isinstance(self._async_transport, AsyncDsnTransport):
            self._async_transport.close_ended()

    async def close_async(self) -> None:
        """``close()``, and close the connection of reads in this event loop."""
        self.close()
        if self._async_transport is not None:
            await self._async_transport.close()

    def _blocking(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = transport_for(self._checked_source())
            return self._transport

    def _checked_source(self) -> Any:
        if self._source is None:
            raise SettingsError(
                "this AuditLog only records: it has no database to read from",
                hint="Create another one with a connection string, a pool or a DataApi.",
            )
        if isinstance(self._source, StreamAddress):
            raise SettingsError(
                "this AuditLog publishes to a stream, which does not support reading",
                hint="Create another AuditLog with a connection string, a pool or a DataApi.",
            )
        return self._source


class SearchFilters(TypedDict, total=False):
    """Which events a search finds: those that match all given filters. A filter with the value None does not
    apply.
    """

    #: The actor's id.
    actor_id: UUID | str | int | None
    #: The user that the event is linked to.
    user_id: UUID | str | None
    #: The action; if it ends in ``*``, the beginning of the action.
    action: str | None
    #: Type and id.
    entity: Entity
    #: The type of the entity.
    entity_type: str | None
    outcome: Outcome | None
    request_id: UUID | str | int | None
    #: The customer (organisation) that the event belongs to.
    tenant_id: UUID | str | int | None
    #: With impersonation: the user for whom the actor acted.
    on_behalf_of: UUID | str | int | None
    severity: Severity | None
    #: Inclusive. A time without a zone is taken as UTC.
    since: datetime | None
    #: Exclusive. A time without a zone is taken as UTC.
    until: datetime | None
    #: Words. Each is searched as a substring in the values of metadata and changes, ignoring case. Such a
    #: search reads all events that match the other filters.
    text: str | None


class ReadingMethods:
    """Finds and returns stored events, over a PostgreSQL connection or the Data API.

    An event is found as soon as it is stored in the database, shortly after ``record()`` has returned: call
    ``flush()`` first to find an event that was recorded just now.
    """

    _reader: Reader

    def search(
        self,
        *,
        after: str | None = None,
        limit: int = reading.PAGE_SIZE,
        oldest_first: bool = False,
        **filters: Unpack[SearchFilters],
    ) -> EventPage:
        """Return a page of the stored events that match all ``filters``, newest first. Blocks.

        ``after`` is the cursor (``EventPage.next``) that the previous page of the same search returned; only
        ``since`` and ``until`` may differ. ``limit`` is 1 to 100,000 events. Events that are recorded between
        two pages change neither the order nor what is on later pages.

        Raises ``ArgumentTypeError`` and ``ArgumentValueError`` for an invalid argument or cursor, before it
        connects; ``SettingsError`` for a log that only records; ``ConnectionFailedError``,
        ``NotInstalledError`` (no usersync, or no audit log) and ``DatabaseError``.
        """
        found = _search(filters, after, limit, oldest_first=oldest_first)
        return self._reader.run(found, is_long=bool(filters.get("text")))

    async def asearch(
        self,
        *,
        after: str | None = None,
        limit: int = reading.PAGE_SIZE,
        oldest_first: bool = False,
        **filters: Unpack[SearchFilters],
    ) -> EventPage:
        """``search()`` with asyncio. With a blocking pool as the source, the query runs in a thread."""
        found = _search(filters, after, limit, oldest_first=oldest_first)
        return await self._reader.run_async(found, is_long=bool(filters.get("text")))

    def history(
        self, entity: Entity, *, after: str | None = None, limit: int = reading.PAGE_SIZE
    ) -> EventPage:
        """Return the stored events of one entity, the oldest first. Blocks.

        ``EventRecord.field_changes`` has the changes field by field. ``entity``, ``after``, ``limit`` and
        errors are those of ``search()``.
        """
        return self._reader.run(_history(entity, after, limit))

    async def ahistory(
        self, entity: Entity, *, after: str | None = None, limit: int = reading.PAGE_SIZE
    ) -> EventPage:
        """``history()`` with asyncio."""
        return await self._reader.run_async(_history(entity, after, limit))

    def feed(
        self,
        position: int | None = None,
        *,
        limit: int = feed_operations.PAGE_SIZE,
        **filters: Unpack[SearchFilters],
    ) -> FeedPage:
        """Return the events after a position of the feed, in the order in which they became visible. Blocks.

        The feed returns each event once: an event gets its number after its transaction has committed, so an
        event that commits late comes late. Store ``FeedPage.position`` together with what you did, and pass
        it to the next call. None is the position after the newest event. The feed starts with the first call
        on a database; ``search()`` finds older events. Events of one entity are in order if their
        transactions waited for each other, for example for a lock on its row.

        ``limit`` is how many events a call looks at, 1 to 100,000; ``filters`` are those of ``search()``.
        With a filter, a page may be empty although ``more`` is true: call again with its position. A standby
        cannot number events, so it returns those that a call on the primary has numbered.

        An audit table of the application has a feed with ``[audit] feed = true``, or if there is a
        subscription.

        Raises ``SettingsError`` for an invalid argument, before it connects, and for an audit table of the
        application without a feed; other errors are those of ``search()``.
        """
        return self._reader.run(_feed(position, filters, limit), is_long=bool(filters.get("text")))

    async def afeed(
        self,
        position: int | None = None,
        *,
        limit: int = feed_operations.PAGE_SIZE,
        **filters: Unpack[SearchFilters],
    ) -> FeedPage:
        """``feed()`` with asyncio."""
        return await self._reader.run_async(
            _feed(position, filters, limit), is_long=bool(filters.get("text"))
        )

    def get(self, event_id: UUID | str) -> EventRecord | None:
        """Return the stored event with this id, which ``record()`` returned; None if there is none. Blocks.

        Raises ``ArgumentValueError`` if ``event_id`` is not a UUID; other errors are those of ``search()``.
        """
        return self._reader.run(_get(as_uuid("event_id", event_id)))

    async def aget(self, event_id: UUID | str) -> EventRecord | None:
        """``get()`` with asyncio."""
        return await self._reader.run_async(_get(as_uuid("event_id", event_id)))


def filter_of(given: SearchFilters) -> EventFilter:
    """The filter of a search. Raises ``ArgumentTypeError`` and ``ArgumentValueError``."""
    values: dict[str, Any] = dict(given)
    if unknown := values.keys() - SearchFilters.__annotations__.keys():
        raise ArgumentTypeError(
            f"a search has no filter {min(unknown)!r:.80}",
            hint=f"It has {', '.join(SearchFilters.__annotations__)}.",
        )
    if (entity := values.pop("entity", None)) is not None:
        kind, key = _entity_of(entity)
        if values.get("entity_type") not in {None, kind}:
            raise ArgumentValueError(
                f"entity_type: {values['entity_type']!r:.80} is not the type of the entity, {kind!r:.80}"
            )
        values |= {"entity_type": kind, "entity_id": key}
    return EventFilter(**values)


def _entity_of(entity: Any) -> tuple[str, Any]:
    kind, key = stored_entity_of(entity)
    if key is None:
        raise ArgumentValueError(f"entity: the {kind} has no id, so it has no events", hint=FORMS)
    return kind, key


def _search(given: SearchFilters, after: str | None, limit: int, *, oldest_first: bool) -> Steps[EventPage]:
    return reading.search(filter_of(given), after=after, limit=limit, oldest_first=oldest_first)


def _history(entity: Entity, after: str | None, limit: int) -> Steps[EventPage]:
    kind, key = _entity_of(entity)
    return reading.history(kind, key, after=after, limit=limit)


def _get(event_id: UUID) -> Steps[EventRecord | None]:
    # A client that sends an id again with another time creates a second event. Return the first one.
    found = yield from reading.show(event_id)
    return found[0] if found else None


def _feed(position: int | None, given: SearchFilters, limit: int) -> Steps[FeedPage]:
    return feed_operations.feed(position, filter_of(given), limit)
