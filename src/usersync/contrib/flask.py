"""For Flask: an audit context around every request, and views for users who are signed in.

::

    users = FlaskUserSync(trusted_proxies=["10.0.0.0/8"])

    def create_app():
        app = Flask(__name__)
        users.init_app(app)      # SUPABASE_URL, SUPABASE_DB_URL
        return app

    @app.get("/whoami")
    @users.user_required
    def whoami():
        return str(users.current_user.id)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from usersync.audit.event.context import amend
from usersync.client import UserSync
from usersync.config.extras import needed
from usersync.contrib.ensuring import TIMEOUT_S, Ensurer
from usersync.contrib.wsgi import AuditContextMiddleware
from usersync.errors import InvalidTokenError, KeysUnavailableError, SettingsError

with needed("flask", "usersync.contrib.flask"):
    from flask import current_app, request
    from werkzeug.datastructures import WWWAuthenticate
    from werkzeug.exceptions import ServiceUnavailable, Unauthorized

    from usersync.contrib.auth import TokenVerifier, bearer_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask

    from usersync.contrib.auth import VerifiedUser

__all__ = ["FlaskUserSync"]

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
        amend({"actor_id": str(user.id)})
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
