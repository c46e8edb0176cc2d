"""Brings the copy of the auth server's users up to date, over its admin API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from usersync.errors import ConnectionFailedError
from usersync.plans import receiving
from usersync.rest.answers import Refusal
from usersync.rest.http import BlockingWire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.rest.admin import AuthServer, UserPage
    from usersync.rest.exchange import Exchange
    from usersync.transports.psycopg import Link

T = TypeVar("T")

#: How often the list is read, where pages shift so that there were fewer users in them than there are.
PASSES = 3


@dataclass(frozen=True)
class Received:
    """How many users the auth server listed, how many rows of the copy were written, how many went."""

    listed: int
    written: int
    gone: int


OnListed = Callable[[int, int | None], None]
"""Called after each page with how many users were listed and how many there are, where that is known."""


def receive_all(
    link: Link, server: AuthServer, *, removal_cap: float | None, on_listed: OnListed = lambda *_: None
) -> Received:
    """List all users of the auth server and bring the copy in line with them. Blocks.

    Nobody counts as gone for not being listed: pages shift, and an auth server lists some users under
    another audience. Each is asked for by id. Raises :class:`RemovalCapError`, with the copy's other users up
    to date, and :class:`SettingsError` where the database keeps no copy. Interrupted, it leaves whole pages.
    """
    wire = BlockingWire(server.api)
    try:
        seen_at = link.run(receiving.start_receiving())
        listed = written = 0
        for _ in range(PASSES):
            ids, total = set[str](), None
            for page in _pages(wire, server):
                ids.update(each["id"] for each in page.users)
                written += link.run(receiving.receive(page.users, seen_at))
                total = page.total
                on_listed(len(ids), total)
            listed = len(ids)
            if total is None or listed >= total:
                break
        gone = 0
        if link.run(receiving.check_unseen(seen_at, removal_cap)):
            gone, more = _look_for_unseen(link, wire, server, seen_at)
            written += more
        return Received(listed, written, gone)
    finally:
        wire.close()


def _pages(wire: BlockingWire, server: AuthServer) -> Iterator[UserPage]:
    page = _answer(wire, server.first_page())
    asked = set[str]()
    while True:
        yield page
        if page.next_query is None:
            return
        if page.next_query in asked:
            raise ConnectionFailedError(
                f"{server.api.host} lists the same page of users again and again",
                hint="Does a cache stand between?",
            )
        asked.add(page.next_query)
        page = _answer(wire, server.page(page.next_query))


def _look_for_unseen(link: Link, wire: BlockingWire, server: AuthServer, seen_at: str) -> tuple[int, int]:
    """Ask for each who was not listed; how many are gone, and how many rows were written for the others."""
    gone = written = 0
    after: str | None = None
    while ids := link.run(receiving.unseen_ids(seen_at, after)):
        for user_id in ids:
            user = _answer(wire, server.find(user_id))
            if user is None:
                link.run(receiving.forget(user_id, seen_at))
                gone += 1
            else:
                written += link.run(receiving.receive([user], seen_at))
        after = ids[-1]
    return gone, written


def _answer(wire: BlockingWire, exchange: Exchange[T]) -> T:
    try:
        return wire.drive(exchange)
    except Refusal as refusal:
        error = refusal.error
    raise error
