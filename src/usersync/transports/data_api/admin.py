"""The auth server's list of users: GET /admin/users, with both kinds of pagination.

Every auth server supports page numbers: the newest users first, with the headers ``X-Total-Count`` and
``Link``. These pages shift when users are created or deleted. Pages by cursor do not shift, and require a
flag of the auth server (GOTRUE_EXPERIMENTAL_CURSOR_PAGINATION_ENABLED). Source: supabase/auth, pagination.go.
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
    """One page of users, the total number if the server sends it, and the query for the next page."""

    users: tuple[User, ...]
    total: int | None
    next_query: str | None


@dataclass(frozen=True)
class AuthServer:
    """The admin API: behind a project's gateway, or an auth server without a gateway."""

    api: DataApi
    prefix: str = _BEHIND_GATEWAY

    @classmethod
    def from_env(cls) -> Self:
        """Create one from ``SUPABASE_AUTH_URL``, else from ``SUPABASE_URL``. Raises ``ApiKeyError``.

        Uses the key of the Data API. An auth server without a gateway accepts only the ``service_role`` key.
        """
        url, key = look_up(AUTH_URL_VARIABLE), look_up(*KEY_VARIABLES)
        if url is None or key is None:
            return cls(DataApi.from_env())
        behind = url.value.strip().rstrip("/").endswith(_BEHIND_GATEWAY)
        return cls(DataApi(url.value, key.value), _BEHIND_GATEWAY if behind else "")

    def first_page(self, size: int = PAGE_SIZE) -> Exchange[UserPage]:
        """The first page, by cursor if the server supports it, else by number. Raises ``Refusal``."""
        # A server without cursors ignores the limit.
        found = yield from self.page(f"limit={size}")
        if found.next_query is None or found.next_query.startswith("limit="):
            return found
        return (yield from self.page(f"page=1&per_page={size}"))

    def page(self, query: str) -> Exchange[UserPage]:
        """One page. Raises ``Refusal``."""
        path = f"{self.prefix}/admin/users?{query}"
        return (
            yield from ask(self.api, "GET", path, read=lambda reply, host: _read_page(reply, host, query))
        )

    def find(self, user_id: UUID | str) -> Exchange[User | None]:
        """One user, or None if the server has no user with this id. Raises ``Refusal``."""
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
    """The query for the next page, by the number in the header. The header's host and path may be
    internal.
    """
    asked = {key: values[0] for key, values in parse_qs(query).items()}
    size = asked.get("per_page", str(PAGE_SIZE))
    link = re.search(r'<([^<>]{1,2000})>;\s*rel="?next"?', reply.headers.get("link", ""))
    if link:
        page = parse_qs(urlsplit(link[1]).query).get("page", [""])[0]
        return f"page={page}&per_page={size}" if re.fullmatch(r"\d{1,9}", page) else None
    if "link" in reply.headers or not users:
        return None
    # A proxy has removed the header: read on until a page is empty.
    return f"page={int(asked.get('page', 1)) + 1}&per_page={size}"


def _read_user(reply: Reply, host: str) -> User | None:
    # Only this 404: with a wrong path, all users would seem to be deleted.
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
            f"the answer of {host} is not an auth server's list of users",
            hint="For an auth server behind a gateway, set SUPABASE_URL. SUPABASE_AUTH_URL is for one "
            "without a gateway.",
        ),
        again=True,
        status=reply.status,
    )
