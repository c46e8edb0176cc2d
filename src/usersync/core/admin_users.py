"""Brings the copy of the auth server's users up to date, over its admin API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from usersync.core import users_copy
from usersync.errors import ConnectionFailedError
from usersync.transports.data_api.answers import Refusal
from usersync.transports.data_api.http import BlockingWire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.data_api.admin import AuthServer, UserPage
    from usersync.transports.data_api.exchange import Exchange
    from usersync.transports.psycopg import Transport

T = TypeVar("T")

#: How often the list is read, where pages shift so that there were fewer users in them than there are.
PASSES = 3

#: How many users who were not listed are asked for by id, where nobody is to be removed.
ASK_UP_TO = 1_000


@dataclass(frozen=True)
class CopyUpdate:
    """How many users the auth server listed, how many rows of the copy were written, who is not listed."""

    listed: int
    written: int
    #: How many users of the copy the auth server does not list.
    unlisted: int
    #: Those of them whom it does not know by id either; nobody, where they were too many to ask for.
    gone: tuple[str, ...]
    #: When the list was begun: a user who was seen later is not gone.
    seen_at: str


OnPage = Callable[[int, int | None], None]
"""Called after each page with how many users were listed and how many there are, where that is known."""


def update_copy(
    transport: Transport,
    server: AuthServer,
    *,
    ask_up_to: int = ASK_UP_TO,
    on_listed: OnPage = lambda *_: None,
) -> CopyUpdate:
    """List all users of the auth server and write them to the copy, from which nobody is removed. Blocks.

    Nobody counts as gone for not being listed: pages shift, and an auth server lists some users under
    another audience. Each is asked for by id, if they are not more than ``ask_up_to``. Raises
    ``SettingsError`` where the database keeps no copy. Interrupted, it leaves whole pages.
    """
    wire = BlockingWire(server.api)
    try:
        seen_at = transport.run(users_copy.start_update())
        listed = written = 0
        for _ in range(PASSES):
            ids, total = set[str](), None
            for page in _pages(wire, server):
                ids.update(each["id"] for each in page.users)
                written += transport.run(users_copy.write_users(page.users, seen_at))
                total = page.total
                on_listed(len(ids), total)
            listed = len(ids)
            if total is None or listed >= total:
                break
        unlisted, gone = transport.run(users_copy.count_unseen(seen_at)), tuple[str, ...]()
        if 0 < unlisted <= ask_up_to:
            gone, more = _look_for_unseen(transport, wire, server, seen_at)
            written, unlisted = written + more, len(gone)
        return CopyUpdate(listed, written, unlisted, gone, seen_at)
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


def delete_gone(transport: Transport, received: CopyUpdate) -> None:
    """Delete those who are gone from the copy, whose trigger applies ``on_delete`` to their rows."""
    for user_id in received.gone:
        transport.run(users_copy.delete_user(user_id, received.seen_at))


def _look_for_unseen(
    transport: Transport, wire: BlockingWire, server: AuthServer, seen_at: str
) -> tuple[tuple[str, ...], int]:
    """Ask for each who was not listed; who is gone, and how many rows were written for the others."""
    gone, written = list[str](), 0
    after: str | None = None
    while ids := transport.run(users_copy.unseen_ids(seen_at, after)):
        for user_id in ids:
            user = _answer(wire, server.find(user_id))
            if user is None:
                gone.append(user_id)
            else:
                written += transport.run(users_copy.write_users([user], seen_at))
        after = ids[-1]
    return tuple(gone), written


def _answer(wire: BlockingWire, exchange: Exchange[T]) -> T:
    try:
        return wire.drive(exchange)
    except Refusal as refusal:
        error = refusal.error
    raise error
