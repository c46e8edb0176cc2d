"""Sends new events to open pages: one reader of the log for all of them."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from usersync.audit import reading
from usersync.audit.models import FeedCursor, SnapshotCursor
from usersync.errors import DatabaseError, UsersyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from usersync.audit.models import EventFilter, EventRecord, TailBatch, TailCursor
    from usersync.console.database import Database

#: The time between two looks at the log, and after an error.
_EVERY_S, _AFTER_ERROR_S = 1.0, 5.0
#: Events that wait for one page. A page that is slower misses the older ones.
_WAITING = 100
_PING_S = 15.0
_PING = ": still here\n\n"  # So that a closed connection is noticed.
#: Then the browser connects again, so that a proxy or a restart does not wait for ever.
_LONGEST_S = 600.0

_EQUAL = (
    *("user_id", "actor_id", "entity_type", "entity_id", "outcome", "request_id", "tenant_id"),
    *("on_behalf_of", "severity"),
)


#: The page has missed events: more than it can get, or none knows which.
_MISSED = "event: missed\ndata:\n\n"
_POSITION = re.compile(r"(\d{1,20}:\d{1,20}:[\d,]{0,9999});((?:\d{1,20}:\d{1,20}:[\d,]{0,9999})?);(\d{1,19})")
_NUMBER = re.compile(r"\d{1,18}")


class _Found:
    """A new event. All pages at one address get the same row, so it is rendered once.

    The last one of a batch has the ``position`` after the batch.
    """

    def __init__(self, event: EventRecord, position: str = "") -> None:
        self.event = event
        self.position = position
        self._rows: dict[str, str] = {}

    def row(self, root: str, render: Callable[[EventRecord], str]) -> str:
        """The row as a server-sent event."""
        if root not in self._rows:
            lines = render(self.event).splitlines()
            self._rows[root] = "".join(f"data: {line}\n" for line in lines if line) + "\n"
        return self._rows[root]


class _Page:
    """An open page: the events that it has not got yet."""

    def __init__(self) -> None:
        self.queue = asyncio.Queue[_Found](_WAITING)
        #: Whether it was too slow, so that events were dropped.
        self.has_missed = False

    def put(self, found: _Found) -> None:
        if self.queue.full():
            with suppress(asyncio.QueueEmpty):
                self.queue.get_nowait()
            self.has_missed = True
        self.queue.put_nowait(found)


def position_of(cursor: TailCursor | None) -> str:
    """A position as text. Empty for an audit table of the application without a feed, which has none that is
    short.
    """
    if isinstance(cursor, FeedCursor):
        return str(cursor.position)
    if isinstance(cursor, SnapshotCursor):
        return f"{cursor.snapshot};{cursor.target or ''};{cursor.after}"
    return ""


def _cursor_of(position: str) -> SnapshotCursor | FeedCursor | None:
    if _NUMBER.fullmatch(position):
        return FeedCursor(int(position))
    found = _POSITION.fullmatch(position)
    return SnapshotCursor(found[1], found[2] or None, int(found[3])) if found else None


class Live:
    """The new events of one database, while at least one page is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: set[_Page] = set()
        self._reader: asyncio.Task[None] | None = None
        self._cursor: TailCursor | None = None
        #: Set when the reader has a position: later events are sent.
        self._begun = asyncio.Event()

    async def stream(
        self, wanted: EventFilter, render: Callable[[EventRecord], str], root: str, after: str | None = None
    ) -> AsyncIterator[str]:
        """The matching events as server-sent events, for at most ten minutes.

        ``root`` is the path before the links of a row. ``after`` is the position of the page: that of its
        first events, or of an earlier stream. The event ``begin`` says that the page has all events up to
        now, or ``missed`` that it has not.
        """
        now = asyncio.get_running_loop().time
        ends = now() + _LONGEST_S
        async with self._page() as page:
            yield "retry: 3000\n\n"
            while not await _is_set(self._begun):
                yield _PING
            try:
                earlier, known = await self._earlier(
                    after, wanted, lambda event: _Found(event).row(root, render)
                )
            except UsersyncError:
                return  # The browser connects again, with the same position.
            yield earlier + "event: begin\ndata:\n\n"
            while now() < ends:
                try:
                    found = await asyncio.wait_for(page.queue.get(), _PING_S)
                except TimeoutError:
                    found = None
                if page.has_missed:
                    page.has_missed = False
                    yield _MISSED
                if found is None:
                    yield _PING
                    continue
                if found.event.id not in known and matches(wanted, found.event):
                    yield found.row(root, render)
                if found.position:
                    yield _at(found.position)

    async def _earlier(
        self, after: str | None, wanted: EventFilter, row: Callable[[EventRecord], str]
    ) -> tuple[str, set[Any]]:
        """The events since a position, and their ids. Without a position, none are missing."""
        reached = self._cursor
        if after is None:
            return _at(position_of(reached)), set()
        batch = await self._since(_cursor_of(after), wanted)
        if batch is None or len(batch.events) > _WAITING or _ends_before(batch.cursor, reached):
            return _MISSED + _at(position_of(reached)), set()
        rows = "".join(map(row, batch.events))
        return rows + _at(position_of(batch.cursor)), {each.id for each in batch.events}

    async def _since(self, cursor: TailCursor | None, wanted: EventFilter) -> TailBatch | None:
        """The events since a position of a page; None if it is no position of this log."""
        # A position of another kind of log has another type.
        if cursor is None or type(cursor) is not type(self._cursor):
            return None
        database, operation = self._database, reading.tail(cursor, wanted)
        try:
            return await database.read(lambda: database.run(operation))
        except UsersyncError as error:
            if _is_of_other_feed(error):
                return None
            raise

    @asynccontextmanager
    async def _page(self) -> AsyncIterator[_Page]:
        page = _Page()
        self._pages.add(page)
        if self._reader is None:
            self._begun.clear()
            self._reader = asyncio.create_task(self._read())
        try:
            yield page
        finally:
            self._pages.discard(page)
            if not self._pages and self._reader is not None:
                self._reader.cancel()
                self._reader = None

    async def _read(self) -> None:
        """Give the new events to each page, until cancelled."""
        cursor: TailCursor | None = None
        is_other_feed = False
        try:
            while True:
                try:
                    batch = await self._after(cursor)
                except UsersyncError as error:
                    if _is_of_other_feed(error):
                        # Start with the newest event of the other feed.
                        cursor, is_other_feed = None, True
                    # The log still has the events of an outage afterwards.
                    await asyncio.sleep(_AFTER_ERROR_S)
                    continue
                self._cursor = cursor = batch.cursor
                for page in self._pages if is_other_feed else ():
                    page.has_missed = True
                is_other_feed = False
                self._begun.set()
                self._give(batch.events)
                await asyncio.sleep(_EVERY_S)
        finally:
            self._database.close_kept()

    async def _after(self, cursor: TailCursor | None) -> TailBatch:
        return await self._database.read(lambda: self._database.run_kept(reading.tail(cursor)))

    def _give(self, events: Sequence[EventRecord]) -> None:
        found = list(map(_Found, events[-_WAITING:]))
        if found:
            found[-1].position = position_of(self._cursor)
        for page in self._pages:
            page.has_missed = page.has_missed or len(events) > _WAITING
            for each in found:
                page.put(each)


def _is_of_other_feed(error: UsersyncError) -> bool:
    """Whether a position is beyond the feed, because the database was restored: see ``feed_page()``."""
    return isinstance(error, DatabaseError) and error.sqlstate == "22023"


def _ends_before(cursor: TailCursor, reached: TailCursor | None) -> bool:
    """Whether a batch ends before the reader's position, because there are more events than it looks at."""
    if not isinstance(cursor, FeedCursor) or not isinstance(reached, FeedCursor):
        return False
    return cursor.position < reached.position


async def _is_set(event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), _PING_S)
    except TimeoutError:
        return False
    return True


def _at(position: str) -> str:
    """The position that the browser sends if it connects again."""
    return f"id: {position or '-'}\n\n"


def matches(wanted: EventFilter, event: EventRecord) -> bool:
    """Whether an event matches a filter, as a search in the database decides."""
    if any(
        getattr(wanted, name) is not None and str(getattr(event, name)) != str(getattr(wanted, name))
        for name in _EQUAL
    ):
        return False
    if wanted.action is not None:
        action, prefix = event.action or "", wanted.action.removesuffix("*")
        if action != wanted.action and not (wanted.action.endswith("*") and action.startswith(prefix)):
            return False
    if wanted.since is not None and event.occurred_at < wanted.since:
        return False
    if wanted.until is not None and event.occurred_at >= wanted.until:
        return False
    values = list(_values([event.metadata, event.changes]))
    return all(any(word in value for value in values) for word in (wanted.text or "").lower().split())


def _values(document: Any) -> list[str]:
    """The values of a document as text, in lower case, without the names of keys."""
    if isinstance(document, dict):
        return [found for each in document.values() for found in _values(each)]
    if isinstance(document, list):
        return [found for each in document for found in _values(each)]
    return [("true" if document else "false") if isinstance(document, bool) else str(document).lower()]
