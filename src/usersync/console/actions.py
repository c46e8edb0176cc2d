"""Changes that the console makes, if it may: to one user, or to one subscription."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from usersync.audit import erasure, reading
from usersync.audit.models import as_uuid
from usersync.audit.options import default_spool_dir
from usersync.audit.spool.erasing import erase_in_spools
from usersync.console.addresses import address, root_of
from usersync.console.filters import is_number, moment_of
from usersync.core import users
from usersync.core.admin_actions import record_admin_action
from usersync.events import subscriptions
from usersync.events.models import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from uuid import UUID

    from usersync.audit.spool.erasing import SpoolErasure
    from usersync.console.database import Database
    from usersync.console.rendering import Renderer
    from usersync.models import Erasure
    from usersync.transports.steps import Steps

#: Returns the name of the person who acts, for the audit log. None refuses the action.
AllowActions = Callable[[Request], str | Awaitable[str | None] | None]

USER = ("sync", "retry", "erase")
SUBSCRIPTION = ("retry", "pause", "resume", "replay")

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
        yield "/subscriptions/retry", self.retry_events
        yield "/subscriptions/pause", self.pause
        yield "/subscriptions/resume", self.resume
        yield "/subscriptions/replay", self.replay

    async def tokens(self, request: Request, names: Iterable[str], subject: str) -> dict[str, str] | None:
        """The token of each action of a page; None if this person may not act."""
        if await self._name(request) is None:
            return None
        session = request.cookies.get(_COOKIE) or secrets.token_urlsafe(32)
        request.state.usersync_session = session
        return {each: _token(session, each, subject) for each in names}

    @staticmethod
    def keep_session(request: Request, response: Response) -> Response:
        """Set the cookie of the session that ``tokens()`` has used."""
        if session := getattr(request.state, "usersync_session", None):
            path = root_of(request) or "/"
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

    async def retry_events(self, request: Request) -> Response:
        """Retry dead and waiting events, as ``usersync subscriptions retry`` does."""
        name, by, form = await self._begin_subscription(request, "retry")
        event_id = as_uuid("event", form["event"]) if "event" in form else None

        def act() -> Steps[str]:
            retried = yield from subscriptions.retry(name, event_id=event_id)
            if retried:
                yield from _record("usersync.events_retried", by, name, events=retried)
            return "retried" if retried else "nothing"

        return await self._act_on_subscription(request, name, act())

    async def pause(self, request: Request) -> Response:
        """Pause the subscription, as ``usersync subscriptions pause`` does."""
        name, by, form = await self._begin_subscription(request, "pause")
        reason = form.get("reason", "").strip() or None

        def act() -> Steps[str]:
            if (yield from subscriptions.pause(name, reason=reason)):
                yield from _record("usersync.subscription_paused", by, name, reason=reason)
            return "paused"

        return await self._act_on_subscription(request, name, act())

    async def resume(self, request: Request) -> Response:
        """Continue the subscription, as ``usersync subscriptions resume`` does."""
        name, by, _ = await self._begin_subscription(request, "resume")

        def act() -> Steps[str]:
            if (yield from subscriptions.resume(name)):
                yield from _record("usersync.subscription_resumed", by, name)
            return "resumed"

        return await self._act_on_subscription(request, name, act())

    async def replay(self, request: Request) -> Response:
        """Handle past events again, as ``usersync subscriptions replay`` does."""
        name, by, form = await self._begin_subscription(request, "replay")
        since = form.get("since", "").strip()
        moment = None if is_number(since) else moment_of("since", since)
        if form.get("confirmation", "").strip() != name:
            raise HTTPException(400, "Nothing was replayed. Type the name of the subscription to confirm.")

        def act() -> Steps[str]:
            number = int(since) if moment is None else (yield from subscriptions.first_number(moment))
            if number is None:
                return "nothing"
            yield from subscriptions.replay(name, number)
            yield from _record("usersync.subscription_replayed", by, name, since=number)
            return "replayed"

        return await self._act_on_subscription(request, name, act())

    async def _begin_subscription(self, request: Request, action: str) -> tuple[str, str, dict[str, str]]:
        """The subscription, the name of the person who acts, and the form. Raises ``HTTPException``."""
        form = await _form(request)
        subscription = form.get("name", "")
        return subscription, await self._check(request, action, subject(subscription), form), form

    async def _act_on_subscription(self, request: Request, name: str, operation: Steps[str]) -> Response:
        """Run the action, and show the page of the subscription with its result."""
        done = await self._database.read(lambda: self._database.run(operation))
        return RedirectResponse(address(request, "/subscriptions", {"name": name, "done": done}), 303)

    async def _begin(self, request: Request, action: str) -> tuple[UUID, str, dict[str, str]]:
        """The user, the name of the person who acts, and the form. Raises ``HTTPException``."""
        user_id = as_uuid("user", request.path_params["user_id"])
        form = await _form(request)
        return user_id, await self._check(request, action, str(user_id), form), form

    async def _check(self, request: Request, action: str, subject: str, form: Mapping[str, str]) -> str:
        """The name of the person who acts. Raises ``HTTPException``."""
        name = await self._name(request)
        if name is None:
            raise HTTPException(403, "You are not allowed to change anything here.")
        session = request.cookies.get(_COOKIE, "")
        token = _token(session, action, subject)
        # Browsers say where a request comes from. Another port of this machine is another origin.
        is_ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        is_given = hmac.compare_digest(form.get("token", "").encode(), token.encode())
        if not (session and is_ours and is_given):
            raise HTTPException(403, "Nothing was changed. Open the page again, and repeat.")
        return name

    async def _name(self, request: Request) -> str | None:
        found: object = self._allow(request)
        if inspect.isawaitable(found):
            found = await found
        return found if isinstance(found, str) and found else None


def subject(subscription: str) -> str:
    """What the tokens of a subscription are for. The subject of a user is the id."""
    return f"subscription {subscription}"


def _token(session: str, action: str, subject: str) -> str:
    return hmac.new(session.encode(), f"{action} {subject}".encode(), hashlib.sha256).hexdigest()


def _record(action: str, by: str, subscription: str, **details: Any) -> Steps[None]:
    settings = yield from reading.installed_settings()
    yield from record_admin_action(settings, action, by=by, table=TABLE, subscription=subscription, **details)


def _back(request: Request, user_id: UUID, done: str) -> Response:
    return RedirectResponse(address(request, f"/users/{user_id}", {"done": done}), 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Starlette needs another package for that."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "The form is too large.")
    text = body.decode(errors="replace")
    if "%00" in text or "\0" in text:
        # PostgreSQL stores no NUL.
        raise HTTPException(400, "Nothing was changed. The form has a NUL character.")
    return {name: values[0] for name, values in parse_qs(text).items()}
