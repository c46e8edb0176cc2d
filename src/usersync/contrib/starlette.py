"""For Starlette, and what is built on it: who is asking, and what is opened and closed with the application.

::

    current_user = CurrentUser(AsyncTokenVerifier.from_env(), sync)

    async def whoami(request):
        user = await current_user(request)

    app = Starlette(routes=…, lifespan=lifespan(sync, audit), middleware=[Middleware(AuditContextMiddleware)])
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from usersync.audit import AuditLog
from usersync.audit.event.context import amend
from usersync.config.extras import needed
from usersync.contrib.asgi import AuditContextMiddleware
from usersync.contrib.background import seen
from usersync.contrib.ensuring import TIMEOUT_S, AsyncEnsurer
from usersync.errors import InvalidTokenError, KeysUnavailableError, SettingsError

with needed("fastapi", "usersync.contrib.starlette"):
    from starlette.exceptions import HTTPException

    from usersync.contrib.auth import bearer_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import HTTPConnection

    from usersync import AsyncUserSync
    from usersync.contrib.auth import AsyncTokenVerifier, VerifiedUser

__all__ = ["AuditContextMiddleware", "CurrentUser", "lifespan"]

logger: logging.Logger = logging.getLogger("usersync.starlette")

_CLOSE_TIMEOUT_S = 10.0


class CurrentUser:
    """Says who is asking, and sees to it that they have a row before the handler runs.

    The token is taken from ``Authorization: Bearer …``. Who is asking becomes the actor of the request's
    events. With ``sync``, their row is made if they have none; a request waits for that for ``timeout``
    seconds at the most, and goes on without if it fails: events and foreign keys are then as they would be
    without usersync. Where a handler cannot do without the row, ``required`` answers 503 instead.
    """

    def __init__(
        self,
        verifier: AsyncTokenVerifier,
        sync: AsyncUserSync | None = None,
        *,
        required: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        if required and sync is None:
            raise SettingsError("required=True needs a sync: an AsyncUserSync that makes the row")
        self._verifier = verifier
        self._ensurer = AsyncEnsurer(sync, timeout) if sync is not None else None
        self._required = required
        self._warned = False

    async def __call__(self, connection: HTTPConnection) -> VerifiedUser:
        """Return the user. Raises ``HTTPException``: 401 for no token or a bad one, 503 if that, or
        whether a required row is there, cannot be known."""
        user = await self._verified(connection.headers.get("authorization"))
        if not amend({"actor_id": str(user.id)}) and not self._warned:
            self._warned = True
            logger.warning("there is no audit context to name the actor in: add AuditContextMiddleware")
        if self._ensurer is not None:
            exists = await self._ensurer.ensure(user.id)
            if self._required and not exists:
                raise _unavailable("Your account is not ready yet.")
        return user

    async def _verified(self, authorization: str | None) -> VerifiedUser:
        token = bearer_token(authorization)
        if token is None:
            raise _unauthorized("Not authenticated.")
        try:
            return await self._verifier.verify(token)
        except InvalidTokenError as error:
            raise _unauthorized(str(error), error="invalid_token", error_description=str(error)) from None
        except KeysUnavailableError as error:
            logger.warning("%s", error)
            raise _unavailable("Tokens cannot be checked at the moment.") from None


def _unauthorized(detail: str, **challenge: str) -> HTTPException:
    parameters = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    return HTTPException(401, detail, headers={"WWW-Authenticate": f"Bearer {parameters}".strip()})


def _unavailable(detail: str) -> HTTPException:
    return HTTPException(503, detail, headers={"Retry-After": "5"})


def lifespan(
    *resources: AbstractAsyncContextManager[Any] | AuditLog,
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The ``lifespan`` of an application: opens what it is given, in this order, and closes it in reverse.

    Takes anything that is an async context manager, such as an ``AsyncConnectionPool`` or an
    ``AsyncUserSync``; and an ``AuditLog``, which sends at the start what a
    worker that is gone has left, and at the end, for ten seconds, what waits. After that it still records:
    what a request that was not done in time has to say stays in the spool for the next worker. In a lifespan
    of your own: ``async with lifespan(pool, audit)(app): …``.
    """

    @asynccontextmanager
    async def opened(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for resource in resources:
                await stack.enter_async_context(
                    _sending(resource) if isinstance(resource, AuditLog) else _closing(resource)
                )
            yield

    return opened


@asynccontextmanager
async def _closing(resource: AbstractAsyncContextManager[Any]) -> AsyncIterator[None]:
    await resource.__aenter__()
    try:
        yield
    finally:
        # A connection that has gone silent must not hold up the end of the worker.
        closed = asyncio.ensure_future(resource.__aexit__(None, None, None))
        closed.add_done_callback(seen)
        await asyncio.wait([closed], timeout=_CLOSE_TIMEOUT_S)
        if closed.done():
            closed.result()
        else:
            logger.warning("%s could not be closed in %g s", type(resource).__name__, _CLOSE_TIMEOUT_S)


@asynccontextmanager
async def _sending(audit: AuditLog) -> AsyncIterator[None]:
    await asyncio.to_thread(audit.drain, 0.0)
    try:
        yield
    finally:
        await asyncio.to_thread(audit.flush, _CLOSE_TIMEOUT_S)
