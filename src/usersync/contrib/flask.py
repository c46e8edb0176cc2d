"""For Flask: an audit context around every request, views for users who are signed in, and the audit log.

::

    users = FlaskUserSync(trusted_proxies=["10.0.0.0/8"])

    def create_app():
        app = Flask(__name__)
        users.init_app(app)      # SUPABASE_URL, SUPABASE_DB_URL
        app.register_blueprint(audit_blueprint(audit, authorize=admins_only))
        return app

    @app.get("/whoami")
    @users.user_required
    def whoami():
        return str(users.current_user.id)
"""

from __future__ import annotations

import inspect
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from usersync.audit.event.context import amend
from usersync.client import UserSync
from usersync.config.extras import needed
from usersync.contrib.audit_pages import HEADERS, INVALID, AuditEvent, AuditPage, filters_of, paging_of
from usersync.contrib.ensuring import TIMEOUT_S, Ensurer
from usersync.contrib.wsgi import AuditContextMiddleware
from usersync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    InvalidTokenError,
    KeysUnavailableError,
    SettingsError,
    UsersyncError,
)

with needed("flask", "usersync.contrib.flask"):
    from flask import Blueprint, Response, current_app, request
    from werkzeug.datastructures import WWWAuthenticate
    from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable, Unauthorized

    from usersync.contrib.auth import TokenVerifier, bearer_token
    from usersync.contrib.auth.verifier import is_from_other_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from flask import Flask

    from usersync.audit import AuditLog, EventPage
    from usersync.contrib.auth import VerifiedUser

__all__ = ["FlaskUserSync", "audit_blueprint"]

logger: logging.Logger = logging.getLogger("usersync.flask")

_NAME = "usersync"
_USER = "usersync.user"

View = TypeVar("View", bound="Callable[..., Any]")


@dataclass(frozen=True)
class _Parts:
    verifier: TokenVerifier
    ensurer: Ensurer


class FlaskUserSync:
    """The extension; one instance serves any number of applications.

    ``init_app()`` opens an audit context around each request (request id, the client's address, the user
    agent), to the end of a streamed body. A view that requires a user adds the user as the actor. A user
    without a row gets one first: the request waits at most ``timeout`` seconds, and continues without the row
    if that fails. With ``required`` the answer is 503 then.

    ``verifier`` is by default created from the environment in ``init_app()``. ``connect`` creates the client,
    which connects at the first request of a user, in each process separately.
    ``trusted_proxies``: see ``TrustedProxies``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        verifier: TokenVerifier | None = None,
        connect: Callable[[], UserSync] = UserSync.from_env,
        trusted_proxies: Iterable[str] = (),
        required: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._verifier = verifier
        self._connect = connect
        self._trusted_proxies = trusted_proxies
        self._required = required
        self._timeout = timeout
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the extension to ``app``. Raises ``SettingsError`` for invalid settings."""
        if _NAME in app.extensions:
            raise SettingsError("this Flask application has a FlaskUserSync already")
        verifier = self._verifier or TokenVerifier.from_env()
        ensurer = Ensurer(self._connect, self._timeout)
        wrapped = AuditContextMiddleware(app.wsgi_app, trusted_proxies=self._trusted_proxies)
        app.extensions[_NAME] = _Parts(verifier, ensurer)
        app.wsgi_app = wrapped  # type: ignore[method-assign]

    def user_required(self, view: View) -> View:
        """Serve ``view`` (``def`` or ``async def``) to signed-in users; answer other requests with 401."""

        @wraps(view)
        def guarded(*arguments: Any, **options: Any) -> Any:
            self.require_user()
            return current_app.ensure_sync(view)(*arguments, **options)

        return cast("View", guarded)

    def require_user(self) -> None:
        """What ``user_required()`` does, for a blueprint: ``blueprint.before_request(users.require_user)``.

        Raises werkzeug's ``Unauthorized`` and ``ServiceUnavailable``.
        """
        # Not in g: if an application context stays open, as in tests, its requests share g.
        if _USER in request.environ:
            return
        parts = self._parts()
        user = _verified(parts.verifier)
        amend(user.actor)
        exists = parts.ensurer.ensure(user.id)
        if self._required and not exists:
            raise ServiceUnavailable("Your account is not ready yet.", retry_after=5)
        request.environ[_USER] = user

    @property
    def current_user(self) -> VerifiedUser:
        """The signed-in user, in a view that requires one."""
        if _USER not in request.environ:
            raise SettingsError(
                "this view requires no user, so there is no current user",
                hint="Put @users.user_required on the view, below the route.",
            )
        return cast("VerifiedUser", request.environ[_USER])

    def close(self, app: Flask) -> None:
        """Close the database connection of an application, as at the end of a test."""
        app.extensions[_NAME].ensurer.close()

    @staticmethod
    def _parts() -> _Parts:
        try:
            return cast("_Parts", current_app.extensions[_NAME])
        except KeyError:
            raise SettingsError(
                "this Flask application has no FlaskUserSync", hint="Call init_app."
            ) from None


def _verified(verifier: TokenVerifier) -> VerifiedUser:
    token = bearer_token(request.headers.get("Authorization"))
    if token is None:
        raise Unauthorized("Not authenticated.", www_authenticate=WWWAuthenticate("bearer"))
    try:
        return verifier.verify(token)
    except InvalidTokenError as error:
        challenge: dict[str, str | None] = {"error": "invalid_token", "error_description": str(error)}
        raise Unauthorized(str(error), www_authenticate=WWWAuthenticate("bearer", challenge)) from None
    except KeysUnavailableError as error:
        logger.warning("%s", error)
        raise ServiceUnavailable("Tokens cannot be checked at the moment.", retry_after=5) from None


def audit_blueprint(
    audit: AuditLog, *, authorize: Callable[[], object], url_prefix: str = "/audit"
) -> Blueprint:
    """Read the audit log: ``GET /events``, ``GET /events/<id>``, ``GET /history``. It changes nothing.

    ``authorize`` is your own function (``def`` or ``async def``), which is called before each request. It
    raises (``abort(403)``), or returns False, unless the caller is allowed to read all events. Being signed
    in is not enough, so ``FlaskUserSync.require_user`` raises ``SettingsError``, as does an object that is
    not callable.

    The parameters of ``/events`` are the filters of ``AuditLog.search()``, with ``entity_id`` beside
    ``entity_type``; times are in ISO 8601. Those of ``/history`` are ``entity_type`` and ``entity_id``. Both
    take ``limit`` (1 to 500, default 50) and ``after``. The answer is JSON: ``events``, and ``next``, the
    link to the next page or null. Invalid parameters and cursors are answered with 400.
    """
    _check_authorize(authorize)
    views = _AuditViews(audit, authorize)
    blueprint = Blueprint("usersync_audit", __name__, url_prefix=url_prefix)
    blueprint.before_request(views.guard)
    blueprint.get("/events")(views.events)
    blueprint.get("/events/<uuid:event_id>")(views.event)
    blueprint.get("/history")(views.history)
    blueprint.register_error_handler(UsersyncError, _failed)
    blueprint.register_error_handler(HTTPException, _refused)
    return blueprint


class _AuditViews:
    """The views of the audit log."""

    def __init__(self, audit: AuditLog, authorize: Callable[[], object]) -> None:
        self._audit = audit
        self._authorize = authorize

    def guard(self) -> None:
        verdict = current_app.ensure_sync(self._authorize)()
        if inspect.iscoroutine(verdict):
            verdict.close()
        if inspect.isawaitable(verdict):
            raise TypeError("authorize returned an awaitable; define it with def or async def")
        site, authorization = map(request.headers.get, ("Sec-Fetch-Site", "Authorization"))
        if verdict is False or is_from_other_site(site, authorization):
            raise Forbidden("Not allowed.")

    def events(self) -> Response:
        return _page_answer(self._audit.search(**filters_of(request.args.to_dict())))

    def history(self) -> Response:
        wanted = paging_of(request.args.to_dict())
        entity = (wanted.pop("entity_type", None), wanted.pop("entity_id", None))
        if unknown := wanted.keys() - {"after", "limit"}:
            raise ArgumentTypeError(f"there is no parameter {min(unknown)!r:.80}")
        return _page_answer(self._audit.history(cast("Any", entity), **wanted))

    def event(self, event_id: UUID) -> Response:
        found = self._audit.get(event_id)
        if found is None:
            return _answer({"detail": "There is no such event."}, 404)
        return _answer(asdict(AuditEvent.of(found)))


def _failed(error: UsersyncError) -> Response:
    if error.code in INVALID:
        return _answer({"detail": str(error)}, 400)
    return _answer({"detail": f"{error.code}: {error}"}, 503)


def _refused(error: HTTPException) -> Any:
    return _answer({"detail": error.description}, error.code) if error.response is None else error


def _check_authorize(authorize: object) -> None:
    if not callable(authorize):
        raise ArgumentTypeError(
            f"authorize: expected a function, got {authorize!r}",
            hint="A function that calls abort(403) unless the caller is an administrator.",
        )
    if getattr(authorize, "__func__", None) is FlaskUserSync.require_user:
        raise ArgumentValueError(
            "authorize: every user who has signed up passes require_user",
            hint="Write a function that calls it, and then checks the user's permissions.",
        )


def _page_answer(page: EventPage) -> Response:
    answer = AuditPage.of(page, request.args.items(multi=True))
    return _answer(asdict(answer), headers=answer.headers)


def _answer(data: object, status: int | None = 200, headers: dict[str, str] = HEADERS) -> Response:
    text = json.dumps(data, ensure_ascii=False, default=_plain)
    return Response(text, status, headers, mimetype="application/json")


def _plain(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
