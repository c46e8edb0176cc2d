"""For FastAPI: a dependency that says who is asking, and a router to look after the users from afar.

::

    current_user = CurrentUser(AsyncTokenVerifier.from_env(), sync)
    app = FastAPI(lifespan=lifespan(sync, audit))
    app.add_middleware(AuditContextMiddleware, trusted_proxies=["10.0.0.0/8"])
    app.include_router(user_sync_router(sync, protected_by=admin))

    @app.get("/whoami")
    async def whoami(user: Annotated[VerifiedUser, Depends(current_user)]): …
"""

# Annotations are read by FastAPI, and so they are not left to be strings.
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar

from usersync.async_client import AsyncUserSync
from usersync.config.extras import needed
from usersync.contrib.asgi import AuditContextMiddleware
from usersync.errors import SettingsError, UsersyncError

with needed("fastapi", "usersync.contrib.fastapi"):
    from fastapi import APIRouter, Depends, HTTPException, Query, Request
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security.base import SecurityBase
    from pydantic import BaseModel, ConfigDict
    from starlette.requests import HTTPConnection

    from usersync.contrib import starlette
    from usersync.contrib.auth import VerifiedUser, bearer_token
    from usersync.contrib.starlette import lifespan

__all__ = ["AuditContextMiddleware", "CurrentUser", "VerifiedUser", "lifespan", "user_sync_router"]

T = TypeVar("T")


class CurrentUser(starlette.CurrentUser, SecurityBase):
    __doc__ = starlette.CurrentUser.__doc__

    model: HTTPBearer = HTTPBearer(
        bearerFormat="JWT", description="An access token of Supabase's auth server."
    )
    scheme_name: str = "Supabase"

    async def __call__(self, connection: HTTPConnection) -> VerifiedUser:
        """See ``usersync.contrib.starlette.CurrentUser.__call__()``."""
        return await super().__call__(connection)


@dataclass(frozen=True)
class Status:
    """What ``UserSync.status()`` says."""

    in_step: bool
    auth_users: int
    users: int
    missing: int
    stale: int
    orphaned: int
    deleted_upstream: int
    degraded: int
    failed: int
    removal_failed: int
    skipped: int
    #: For how many seconds the oldest missing user has been missing.
    lag: float | None
    observed_at: datetime


class SyncOptions(BaseModel):
    """What a run can be told. A name that is misspelt is refused, for what it was to prevent would happen."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    dry_run: bool = False


@dataclass(frozen=True)
class Synced:
    """What ``UserSync.sync_all_missing_users()`` did; with ``dry_run`` what it would do."""

    synced: int
    errors: int
    dry_run: bool
    examined: int
    missing: int
    stale: int
    orphaned: int
    deleted_upstream: int
    seconds: float


@dataclass(frozen=True)
class Problem:
    """Why a request could not be served."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is signed in."},
    403: {"model": Problem, "description": "Whoever is signed in may not do this."},
    503: {"model": Problem, "description": "The database is not to be had, or has no usersync."},
}
_BUSY: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "A run is under way."}}


def user_sync_router(
    sync: AsyncUserSync, *, protected_by: Callable[..., Any], prefix: str = "/user-sync"
) -> APIRouter:
    """``GET /status``, and ``POST /sync`` or ``GET /sync``, which bring all users in line.

    ``protected_by`` is a dependency of yours that raises unless the caller may do this; one that returns
    False is taken for a refusal, too. That somebody is signed in is not enough, so a ``CurrentUser``
    raises ``SettingsError``, as does anything that cannot be called. A request without
    a token that a browser sends on behalf of another site is refused. One run at a time is served by a
    process; a large table is better served by ``usersync sync``, which no proxy cuts off.
    """
    guard = _guarded_by(protected_by)
    router = APIRouter(prefix=prefix, tags=["user sync"], dependencies=[Depends(guard)], responses=_PROBLEMS)
    running = False

    async def sync_users(options: Annotated[SyncOptions, Query()]) -> Synced:
        nonlocal running
        if running:
            raise HTTPException(409, "A run is under way already.")
        running = True
        try:
            result = await _answered(sync.reconcile(dry_run=options.dry_run))
        finally:
            running = False
        counts = result.counts
        return Synced(
            synced=result.synced,
            errors=result.errors,
            dry_run=result.dry_run,
            examined=counts.examined,
            missing=counts.missing,
            stale=counts.stale,
            orphaned=counts.orphaned,
            deleted_upstream=counts.deleted_upstream,
            seconds=result.seconds,
        )

    async def status() -> Status:
        found = await _answered(sync.status())
        return Status(
            in_step=found.in_step,
            auth_users=found.auth_users,
            users=found.users,
            missing=found.missing,
            stale=found.stale,
            orphaned=found.orphaned,
            deleted_upstream=found.deleted_upstream,
            degraded=found.degraded,
            failed=found.failed,
            removal_failed=found.removal_failed,
            skipped=found.skipped,
            lag=found.lag.total_seconds() if found.lag is not None else None,
            observed_at=found.observed_at,
        )

    router.get("/status", summary="How far both tables agree")(status)
    router.post("/sync", summary="Bring all users in line", responses=_BUSY)(sync_users)
    router.get("/sync", summary="The same, from an address bar", responses=_BUSY)(sync_users)
    return router


def _guarded_by(protected_by: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    if not callable(protected_by):
        raise SettingsError(
            f"protected_by: expected a dependency, got {protected_by!r}",
            hint="A function that raises HTTPException(403) unless the caller is an administrator.",
        )
    if isinstance(protected_by, starlette.CurrentUser):
        raise SettingsError(
            "protected_by: everybody who signs up passes a CurrentUser",
            hint="Write a dependency on it that looks at what the user may do, app_metadata for instance.",
        )

    async def guard(verdict: Annotated[Any, Depends(protected_by)], request: Request) -> None:
        # A cookie, or a password that the browser knows, goes with whatever link somebody has put on a page
        # of theirs; a token does not.
        site = request.headers.get("sec-fetch-site")
        foreign = site in {"cross-site", "same-site"}
        if verdict is False or (foreign and bearer_token(request.headers.get("authorization")) is None):
            raise HTTPException(403, "Not allowed.")

    return guard


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except UsersyncError as error:
        raise HTTPException(503, f"{error.code}: {error}") from error
