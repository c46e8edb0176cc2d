"""Updates the copy of the auth server's users from its admin API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from usersync.core import users_copy
from usersync.errors import ConnectionFailedError
from usersync.transports.data_api.answers import Refusal
from usersync.transports.data_api.http import BlockingHttpClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.data_api.admin import AuthServer, UserPage
    from usersync.transports.data_api.exchange import Exchange
    from usersync.transports.psycopg import Transport

T = TypeVar("T")

#: How often the list is read. Pages shift, so that one pass may return fewer users than exist.
PASSES = 3

#: The maximum of users who were not listed and are then looked up by id, if none is to be removed.
ASK_UP_TO = 1_000


@dataclass(frozen=True)
class CopyUpdate:
    """The result: listed users, written rows of the copy, users who were not listed."""

    listed: int
    written: int
    #: The number of users of the copy who were not listed.
    unlisted: int
    #: The ids of unlisted users whom the auth server does not have. Empty if there were too many to look up.
    gone: tuple[str, ...]
    #: The start of the update. Users who were seen later are not deleted.
    seen_at: str


OnPage = Callable[[int, int | None], None]
"""Called after each page with the number of users listed so far, and the total if the server sends it."""


def update_copy(
    transport: Transport,
    server: AuthServer,
    *,
    ask_up_to: int = ASK_UP_TO,
    on_listed: OnPage = lambda *_: None,
) -> CopyUpdate:
    """List all users of the auth server and write them to the copy. Deletes no user of the copy. Blocks.

    A user who is not listed may still exist: pages shift, and an auth server lists some users under another
    audience. So up to ``ask_up_to`` users are looked up by id. Raises ``SettingsError`` if the database has
    no copy. An interruption leaves whole pages.
    """
    http = BlockingHttpClient(server.api)
    try:
        seen_at = transport.run(users_copy.start_update())
        listed = written = 0
        for _ in range(PASSES):
            ids, total = set[str](), None
            for page in _pages(http, server):
                ids.update(each["id"] for each in page.users)
                written += transport.run(users_copy.write_users(page.users, seen_at))
                total = page.total
                on_listed(len(ids), total)
            listed = len(ids)
            if total is None or listed >= total:
                break
        unlisted, gone = transport.run(users_copy.count_unseen(seen_at)), tuple[str, ...]()
        if 0 < unlisted <= ask_up_to:
            gone, more = _look_for_unseen(transport, http, server, seen_at)
            written, unlisted = written + more, len(gone)
        return CopyUpdate(listed, written, unlisted, gone, seen_at)
    finally:
        http.close()


def _pages(http: BlockingHttpClient, server: AuthServer) -> Iterator[UserPage]:
    page = _answer(http, server.first_page())
    asked = set[str]()
    while True:
        yield page
        if page.next_query is None:
            return
        if page.next_query in asked:
            raise ConnectionFailedError(
                f"{server.api.host} lists the same page of users again and again",
                hint="Check for a cache between this machine and the auth server.",
            )
        asked.add(page.next_query)
        page = _answer(http, server.page(page.next_query))


def delete_gone(transport: Transport, received: CopyUpdate) -> None:
    """Delete from the copy the users whom the auth server does not have.

    The copy's trigger applies ``on_delete`` to their rows.
    """
    for user_id in received.gone:
        transport.run(users_copy.delete_user(user_id, received.seen_at))


def _look_for_unseen(
    transport: Transport, http: BlockingHttpClient, server: AuthServer, seen_at: str
) -> tuple[tuple[str, ...], int]:
    """Look up each user who was not listed. Returns the ids that the auth server does not have, and the
    number of rows written for the other users.
    """
    gone, written = list[str](), 0
    after: str | None = None
    while ids := transport.run(users_copy.unseen_ids(seen_at, after)):
        for user_id in ids:
            user = _answer(http, server.find(user_id))
            if user is None:
                gone.append(user_id)
            else:
                written += transport.run(users_copy.write_users([user], seen_at))
        after = ids[-1]
    return tuple(gone), written


def _answer(http: BlockingHttpClient, exchange: Exchange[T]) -> T:
    try:
        return http.drive(exchange)
    except Refusal as refusal:
        error = refusal.error
    raise error
