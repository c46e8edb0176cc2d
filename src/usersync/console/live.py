"""Sends new events to open pages: one reader of the log for all of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from usersync.audit import reading
from usersync.errors import UsersyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from usersync.audit.models import EventFilter, EventRecord, TailBatch, TailCursor
    from usersync.console.database import Database

#: The time between two looks at the log, and after an error.
_EVERY_S, _AFTER_ERROR_S = 1.0, 5.0
#: Events that wait for one page. A page that is slower misses the older ones.
_WAITING = 100
_PING_S = 15.0
#: Then the browser connects again, so that a proxy or a restart does not wait for ever.
_LONGEST_S = 600.0

_EQUAL = (
    *("user_id", "actor_id", "entity_type", "entity_id", "outcome", "request_id", "tenant_id"),
    *("on_behalf_of", "severity"),
)


class _Found:
    """A new event. All pages at one address get the same row, so it is rendered once."""

    def __init__(self, event: EventRecord) -> None:
        self.event = event
        self._rows: dict[str, str] = {}

    def row(self, root: str, render: Callable[[EventRecord], str]) -> str:
        """The row as a server-sent event."""
        if root not in self._rows:
            lines = render(self.event).splitlines()
            self._rows[root] = "".join(f"data: {line}\n" for line in lines if line) + "\n"
        return self._rows[root]


class Live:
    """The new events of one database, while at least one page is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: set[asyncio.Queue[_Found]] = set()
        self._reader: asyncio.Task[None] | None = None
        #: Set when the reader has a position: later events are sent.
        self._begun = asyncio.Event()

    async def stream(
        self, wanted: EventFilter, render: Callable[[EventRecord], str], root: str
    ) -> AsyncIterator[str]:
        """The matching events as server-sent events, for at most ten minutes.

        ``root`` is the path before the links of a row. The event ``begin`` says that later events are sent.
        """
        now = asyncio.get_running_loop().time
        ends, has_begun = now() + _LONGEST_S, False
        async with self._page() as queue:
            yield "retry: 3000\n\n"
            while now() < ends:
                try:
                    if not has_begun:
                        await asyncio.wait_for(self._begun.wait(), _PING_S)
                        has_begun = True
                        yield "event: begin\ndata:\n\n"
                    found = await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    yield ": still here\n\n"  # So that a closed connection is noticed.
                    continue
                if matches(wanted, found.event):
                    yield found.row(root, render)

    @asynccontextmanager
    async def _page(self) -> AsyncIterator[asyncio.Queue[_Found]]:
        queue = asyncio.Queue[Any](_WAITING)
        self._pages.add(queue)
        if self._reader is None:
            self._begun.clear()
            self._reader = asyncio.create_task(self._read())
        try:
            yield queue
        finally:
            self._pages.discard(queue)
            if not self._pages and self._reader is not None:
                self._reader.cancel()
                self._reader = None

    async def _read(self) -> None:
        """Give the new events to each page, until cancelled."""
        cursor: TailCursor | None = None
        try:
            while True:
                try:
                    batch = await self._after(cursor)
                except UsersyncError:
                    # The log still has the events of an outage afterwards.
                    await asyncio.sleep(_AFTER_ERROR_S)
                    continue
                cursor = batch.cursor
                self._begun.set()
                self._give(batch.events[-_WAITING:])
                await asyncio.sleep(_EVERY_S)
        finally:
            self._database.close_kept()

    async def _after(self, cursor: TailCursor | None) -> TailBatch:
        return await self._database.read(lambda: self._database.run_kept(reading.tail(cursor)))

    def _give(self, events: Sequence[EventRecord]) -> None:
        found = list(map(_Found, events))
        for queue in self._pages:
            for each in found:
                if queue.full():
                    with suppress(asyncio.QueueEmpty):
                        queue.get_nowait()
                queue.put_nowait(each)


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
