"""For Starlette and frameworks on it: the signed-in user, and the lifespan of the application.

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
from usersync.errors import ArgumentTypeError, InvalidTokenError, KeysUnavailableError

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
    """Returns the signed-in user, and makes sure that the user has a row before the handler runs.

    The token is that of ``Authorization: Bearer …``. The user becomes the actor of the request's events. With
    ``sync``, a missing row is created; the request waits at most ``timeout`` seconds, and continues without
    the row if that fails. If a handler requires the row, ``required`` answers 503 instead.
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
            raise ArgumentTypeError("required=True needs a sync: an AsyncUserSync that creates the row")
        self._verifier = verifier
        self._ensurer = AsyncEnsurer(sync, timeout) if sync is not None else None
        self._required = required
        self._warned = False

    async def __call__(self, connection: HTTPConnection) -> VerifiedUser:
        """Return the user.

        Raises ``HTTPException``: 401 without a valid token, 503 if the token or a required row cannot be
        checked.
        """
        user = await self._verified(connection.headers.get("authorization"))
        if not amend(user.actor) and not self._warned:
            self._warned = True
            logger.warning("the request has no audit context for the actor: add AuditContextMiddleware")
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
    """The ``lifespan`` of an application: opens its arguments in this order, and closes them in reverse.

    Takes async context managers, such as an ``AsyncConnectionPool`` or an ``AsyncUserSync``, and an
    ``AuditLog``. The log sends the events of an ended worker at the start, and waiting events at the end, for
    at most ten seconds. It records after that, too: such events stay in the spool for the next worker. In
    your own lifespan: ``async with lifespan(pool, audit)(app): …``.
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
        # A connection that does not answer must not delay the end of the worker.
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
        await audit.close_readers()
