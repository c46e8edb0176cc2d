"""The auth server's list of users: GET /admin/users, in both of its forms.

Pages by number are what every auth server has: the newest first, ``X-Total-Count``, and ``Link`` with the
next page. They shift while people sign up and are deleted. Pages by cursor are behind a flag of the auth
server's (GOTRUE_EXPERIMENTAL_CURSOR_PAGINATION_ENABLED), and do not. Source: supabase/auth, pagination.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from usersync.config.environment import look_up
from usersync.errors import ConnectionFailedError
from usersync.transports.data_api.answers import Refusal, refusal_of
from usersync.transports.data_api.api import KEY_VARIABLES, DataApi
from usersync.transports.data_api.exchange import ask
from usersync.transports.steps import fits, uuid_text

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.transports.data_api.answers import Reply
    from usersync.transports.data_api.exchange import Exchange

AUTH_URL_VARIABLE = "SUPABASE_AUTH_URL"

PAGE_SIZE = 500

_BEHIND_GATEWAY = "/auth/v1"

User = dict[str, Any]


@dataclass(frozen=True)
class UserPage:
    """Some users, how many there are in all where that is said, and how to ask for the next."""

    users: tuple[User, ...]
    total: int | None
    next_query: str | None


@dataclass(frozen=True)
class AuthServer:
    """Where the admin API is: behind a project's gateway, or by itself."""

    api: DataApi
    prefix: str = _BEHIND_GATEWAY

    @classmethod
    def from_env(cls) -> Self:
        """From ``SUPABASE_AUTH_URL`` if it is set, else from ``SUPABASE_URL``; raises ``ApiKeyError``.

        The key is that of the Data API; an auth server without a gateway knows the ``service_role`` key only.
        """
        url, key = look_up(AUTH_URL_VARIABLE), look_up(*KEY_VARIABLES)
        if url is None or key is None:
            return cls(DataApi.from_env())
        behind = url.value.strip().rstrip("/").endswith(_BEHIND_GATEWAY)
        return cls(DataApi(url.value, key.value), _BEHIND_GATEWAY if behind else "")

    def first_page(self, size: int = PAGE_SIZE) -> Exchange[UserPage]:
        """The first page, by cursor if the server can do that, else by number; raises ``Refusal``."""
        # A server that pages by number takes no notice of the limit.
        found = yield from self.page(f"limit={size}")
        if found.next_query is None or found.next_query.startswith("limit="):
            return found
        return (yield from self.page(f"page=1&per_page={size}"))

    def page(self, query: str) -> Exchange[UserPage]:
        """One page; raises ``Refusal``."""
        path = f"{self.prefix}/admin/users?{query}"
        return (
            yield from ask(self.api, "GET", path, read=lambda reply, host: _read_page(reply, host, query))
        )

    def find(self, user_id: UUID | str) -> Exchange[User | None]:
        """One user, or None if the server knows nobody of this id; raises ``Refusal``."""
        return (yield from ask(self.api, "GET", f"{self.prefix}/admin/users/{user_id}", read=_read_user))


def _read_page(reply: Reply, host: str, query: str) -> UserPage:
    said = _read(reply, host)
    if not fits(said, {"users": [{"id": uuid_text}]}):
        raise _nobodys_answer(reply, host)
    users, cursor = tuple(said["users"]), said.get("pagination")
    if isinstance(cursor, dict):
        token = cursor.get("next_cursor")
        size = parse_qs(query)["limit"][0]
        onward = f"limit={size}&cursor={quote(token, safe='')}" if isinstance(token, str) and token else None
        return UserPage(users, None, onward)
    total = reply.headers.get("x-total-count", "")
    return UserPage(
        users, int(total) if re.fullmatch(r"\d{1,12}", total) else None, _next_number(reply, query, users)
    )


def _next_number(reply: Reply, query: str, users: tuple[User, ...]) -> str | None:
    """The next page, of which the header says the number. Its host and path are the server's own idea."""
    asked = {key: values[0] for key, values in parse_qs(query).items()}
    size = asked.get("per_page", str(PAGE_SIZE))
    link = re.search(r'<([^<>]{1,2000})>;\s*rel="?next"?', reply.headers.get("link", ""))
    if link:
        page = parse_qs(urlsplit(link[1]).query).get("page", [""])[0]
        return f"page={page}&per_page={size}" if re.fullmatch(r"\d{1,9}", page) else None
    if "link" in reply.headers or not users:
        return None
    # Somebody in between has dropped the header: there are more until there are none.
    return f"page={int(asked.get('page', 1)) + 1}&per_page={size}"


def _read_user(reply: Reply, host: str) -> User | None:
    # Not any 404: a wrong path would make everybody gone.
    if reply.status == 404 and re.search(rb"user_not_found|User not found", reply.body):  # noqa: PLR2004
        return None
    said = _read(reply, host)
    if not fits(said, {"id": uuid_text}):
        raise _nobodys_answer(reply, host)
    return said  # type: ignore[no-any-return]


def _read(reply: Reply, host: str) -> Any:
    if reply.status != 200:  # noqa: PLR2004 - OK
        raise refusal_of(reply, host)
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _nobodys_answer(reply: Reply, host: str) -> Refusal:
    return Refusal(
        ConnectionFailedError(
            f"what {host} answered is not what an auth server says of its users",
            hint="SUPABASE_AUTH_URL is for an auth server that stands by itself; behind a gateway, set "
            "SUPABASE_URL.",
        ),
        again=True,
        status=reply.status,
    )
