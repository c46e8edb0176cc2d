"""Changes that the console makes, if it may: sync, retry and erase one user."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from usersync.audit import erasure, reading
from usersync.audit.models import as_uuid
from usersync.audit.options import default_spool_dir
from usersync.audit.spool.erasing import erase_in_spools
from usersync.core import users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.audit.spool.erasing import SpoolErasure
    from usersync.console.database import Database
    from usersync.console.rendering import Renderer
    from usersync.models import Erasure

#: Returns the name of the person who acts, for the audit log. None refuses the action.
AllowActions = Callable[[Request], str | Awaitable[str | None] | None]

NAMES = ("sync", "retry", "erase")

_COOKIE = "usersync_console_actions"
_LONGEST_FORM = 10_000


class Actions:
    """The actions of one console. A form has a token that only a page of the same browser's session has."""

    def __init__(self, database: Database, renderer: Renderer, allow: AllowActions) -> None:
        self._database = database
        self._page = renderer.page
        self._allow = allow

    def routes(self) -> Iterator[tuple[str, Callable[[Request], Awaitable[Response]]]]:
        """The paths that take POST."""
        yield "/users/{user_id}/sync", self.sync
        yield "/users/{user_id}/retry", self.retry
        yield "/users/{user_id}/erase", self.erase

    async def tokens(self, request: Request, user_id: UUID) -> dict[str, str] | None:
        """The token of each action of a user's page; None if this person may not act."""
        if await self._name(request) is None:
            return None
        session = request.cookies.get(_COOKIE) or secrets.token_urlsafe(32)
        request.state.usersync_session = session
        return {each: _token(session, each, user_id) for each in NAMES}

    @staticmethod
    def keep_session(request: Request, response: Response) -> Response:
        """Set the cookie of the session that ``tokens()`` has used."""
        if session := getattr(request.state, "usersync_session", None):
            path = request.scope.get("root_path", "") or "/"
            is_secure = request.url.scheme == "https"
            response.set_cookie(
                _COOKIE, session, path=path, secure=is_secure, httponly=True, samesite="strict"
            )
        return response

    async def sync(self, request: Request) -> Response:
        """Sync the user, as ``usersync sync --user`` does."""
        user_id, _, _ = await self._begin(request, "sync")
        await self._database.read(lambda: self._database.run(users.sync_auth_user(user_id)))
        return _back(request, user_id, "sync")

    async def retry(self, request: Request) -> Response:
        """Retry the user of the failures table, as ``usersync retry --user`` does."""
        user_id, name, _ = await self._begin(request, "retry")
        operation = users.retry_on_request(user_id, by=name)
        await self._database.read(lambda: self._database.run(operation))
        return _back(request, user_id, "retry")

    async def erase(self, request: Request) -> Response:
        """Erase the personal data of a deleted user, as ``usersync erase`` does."""
        user_id, name, form = await self._begin(request, "erase")
        if form.get("confirmation", "").strip() != str(user_id):
            raise HTTPException(400, "Nothing was erased. Type the id of the user to confirm.")
        found, spools = await self._database.read(lambda: self._erase(user_id, name))
        return self._page(
            request,
            "erased.html",
            command=f"usersync erase {user_id}",
            user_id=str(user_id),
            found=found,
            spools=spools,
        )

    def _erase(self, user_id: UUID, name: str) -> tuple[Erasure, SpoolErasure]:
        settings = self._database.run(reading.installed_settings())
        self._database.run(erasure.check_deleted(settings, user_id))
        # Spools first: an event that is delivered meanwhile is then in the log before the log is read.
        spools = erase_in_spools(default_spool_dir(), user_id, erasure.personal_keys_of(settings))
        return self._database.run(erasure.erase(user_id, spooled=spools.events, by=name)), spools

    async def _begin(self, request: Request, action: str) -> tuple[UUID, str, dict[str, str]]:
        """The user, the name of the person who acts, and the form. Raises ``HTTPException``."""
        user_id = as_uuid("user", request.path_params["user_id"])
        name = await self._name(request)
        if name is None:
            raise HTTPException(403, "You are not allowed to change anything here.")
        form = await _form(request)
        session = request.cookies.get(_COOKIE, "")
        token = _token(session, action, user_id)
        # Browsers say where a request comes from. Another port of this machine is another origin.
        is_ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        is_given = hmac.compare_digest(form.get("token", "").encode(), token.encode())
        if not (session and is_ours and is_given):
            raise HTTPException(403, "Nothing was changed. Open the page of the user again, and repeat.")
        return user_id, name, form

    async def _name(self, request: Request) -> str | None:
        found: object = self._allow(request)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, str) and found else None


def _token(session: str, action: str, user_id: UUID) -> str:
    return hmac.new(session.encode(), f"{action} {user_id}".encode(), hashlib.sha256).hexdigest()


def _back(request: Request, user_id: UUID, done: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/users/{user_id}?done={done}", 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Starlette needs another package for that."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "The form is too large.")
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
