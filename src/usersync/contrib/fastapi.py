"""For FastAPI: a dependency that returns the signed-in user, and routers for the sync and the audit log.

::

    current_user = CurrentUser(AsyncTokenVerifier.from_env(), sync)
    app = FastAPI(lifespan=lifespan(sync, audit))
    app.add_middleware(AuditContextMiddleware, trusted_proxies=["10.0.0.0/8"])
    app.include_router(user_sync_router(sync, protected_by=admin))
    app.include_router(audit_router(audit, authorize=admin))

    @app.get("/whoami")
    async def whoami(user: Annotated[VerifiedUser, Depends(current_user)]): …
"""

# No `annotations` future import: FastAPI reads the annotations.
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from usersync.async_client import AsyncUserSync
from usersync.audit import AuditLog, EventPage
from usersync.audit.event.fields import Outcome, Severity
from usersync.config.extras import needed
from usersync.contrib.asgi import AuditContextMiddleware
from usersync.contrib.audit_pages import HEADERS, INVALID, LARGEST_PAGE, USUAL_PAGE, AuditEvent, AuditPage
from usersync.errors import ArgumentTypeError, ArgumentValueError, UsersyncError

with needed("fastapi", "usersync.contrib.fastapi"):
    from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security.base import SecurityBase
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.requests import HTTPConnection

    from usersync.contrib import starlette
    from usersync.contrib.auth import VerifiedUser
    from usersync.contrib.auth.verifier import is_from_other_site
    from usersync.contrib.starlette import lifespan

__all__ = [
    "AuditContextMiddleware",
    "AuditEvent",
    "AuditPage",
    "CurrentUser",
    "VerifiedUser",
    "audit_router",
    "lifespan",
    "user_sync_router",
]

T = TypeVar("T")


class CurrentUser(starlette.CurrentUser, SecurityBase):
    """``usersync.contrib.starlette.CurrentUser``, which is also a security scheme of the OpenAPI schema."""

    model: HTTPBearer = HTTPBearer(
        bearerFormat="JWT", description="An access token of Supabase's auth server."
    )
    scheme_name: str = "Supabase"

    async def __call__(self, connection: HTTPConnection) -> VerifiedUser:
        """See ``usersync.contrib.starlette.CurrentUser.__call__()``."""
        return await super().__call__(connection)


@dataclass(frozen=True)
class Status:
    """The result of ``UserSync.status()``."""

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
    event_failed: int
    skipped: int
    #: For how many seconds the oldest missing user has been missing.
    lag: float | None
    observed_at: datetime


class SyncOptions(BaseModel):
    """The options of a run. An unknown name is refused, because a misspelt option would have no effect."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    dry_run: bool = False


@dataclass(frozen=True)
class Synced:
    """The result of ``UserSync.sync_all_missing_users()``; with ``dry_run`` what it would do."""

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
    403: {"model": Problem, "description": "The caller is not allowed to do this."},
    503: {"model": Problem, "description": "The database is unavailable, or usersync is not installed."},
}
_BUSY: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "A run is under way."}}


def user_sync_router(
    sync: AsyncUserSync, *, protected_by: Callable[..., Any], prefix: str = "/user-sync"
) -> APIRouter:
    """``GET /status``, and ``POST /sync`` or ``GET /sync``, which sync all users.

    ``protected_by`` is your own dependency. It raises, or returns False, unless the caller is allowed to
    do this. Being signed in is not enough, so a ``CurrentUser`` raises ``SettingsError``, as does an object
    that is not callable. A request without a token that a browser sends for another site is refused. Each
    process serves one run at a time. For a large table use ``usersync sync``, which no proxy interrupts.
    """
    guard = _guarded_by(protected_by, "protected_by")
    router = APIRouter(prefix=prefix, tags=["user sync"], dependencies=[Depends(guard)], responses=_PROBLEMS)
    running = False

    async def sync_users(options: Annotated[SyncOptions, Query()]) -> Synced:
        nonlocal running
        if running:
            raise HTTPException(409, "A run is in progress already.")
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
            event_failed=found.event_failed,
            skipped=found.skipped,
            lag=found.lag.total_seconds() if found.lag is not None else None,
            observed_at=found.observed_at,
        )

    router.get("/status", summary="How many users are in sync")(status)
    router.post("/sync", summary="Sync all users", responses=_BUSY)(sync_users)
    router.get("/sync", summary="The same, for a browser's address bar", responses=_BUSY)(sync_users)
    return router


class Page(BaseModel):
    """A page. An unknown parameter is an error: a search without a misspelt filter would find too many
    events.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    after: str | None = Field(None, description="The cursor in the link to the next page.")
    limit: int = Field(USUAL_PAGE, ge=1, le=LARGEST_PAGE)


class EventQuery(Page):
    """The filters of a search."""

    actor_id: str | None = None
    user_id: UUID | None = None
    action: str | None = Field(None, description="If it ends in *, the beginning of the action.")
    entity_type: str | None = None
    entity_id: str | None = None
    outcome: Outcome | None = None
    request_id: str | None = None
    tenant_id: str | None = None
    on_behalf_of: str | None = None
    severity: Severity | None = None
    since: datetime | None = Field(None, description="Inclusive. A time without a zone is taken as UTC.")
    until: datetime | None = Field(None, description="Exclusive.")
    text: str | None = Field(None, description="Words in the values of metadata and changes.")
    oldest_first: bool = False


class HistoryQuery(Page):
    """An entity."""

    entity_type: str
    entity_id: str


_BAD: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A filter or the cursor is invalid."}
}
_NONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such event."}}


def audit_router(audit: AuditLog, *, authorize: Callable[..., Any], prefix: str = "/audit") -> APIRouter:
    """Read the audit log: ``GET /events``, ``GET /events/{id}``, ``GET /history``. It changes nothing.

    ``authorize`` is your own dependency. It raises, or returns False, unless the caller is allowed to read
    all events. Being signed in is not enough, so a ``CurrentUser`` raises ``SettingsError``, as does an
    object that is not callable. Pages have 1 to 500 events and a link to the next page, in the answer and as
    a ``Link`` header. An invalid cursor is answered with 400.
    """
    guard = _guarded_by(authorize, "authorize")
    router = APIRouter(prefix=prefix, tags=["audit log"], dependencies=[Depends(guard)], responses=_PROBLEMS)

    async def events(
        query: Annotated[EventQuery, Query()], request: Request, response: Response
    ) -> AuditPage:
        wanted = query.model_dump(exclude_unset=True)
        kind, key = wanted.pop("entity_type", None), wanted.pop("entity_id", None)
        wanted |= {"entity_type": kind} if key is None else {"entity": (kind, key)}
        page = await _answered(audit.asearch(**{"limit": USUAL_PAGE} | wanted))
        return _linked(page, request, response)

    async def history(
        query: Annotated[HistoryQuery, Query()], request: Request, response: Response
    ) -> AuditPage:
        entity = (query.entity_type, query.entity_id)
        page = await _answered(audit.ahistory(entity, after=query.after, limit=query.limit))
        return _linked(page, request, response)

    async def event(event_id: UUID, response: Response) -> AuditEvent:
        found = await _answered(audit.aget(event_id))
        if found is None:
            raise HTTPException(404, "There is no such event.")
        response.headers.update(HEADERS)
        return AuditEvent.of(found)

    router.get("/events", summary="Find events, the newest first", responses=_BAD)(events)
    router.get("/events/{event_id}", summary="One event", responses=_NONE)(event)
    router.get("/history", summary="The events of an entity, the oldest first", responses=_BAD)(history)
    return router


def _linked(page: EventPage, request: Request, response: Response) -> AuditPage:
    answer = AuditPage.of(page, request.query_params.multi_items())
    response.headers.update(answer.headers)
    return answer


def _guarded_by(protected_by: Callable[..., Any], name: str) -> Callable[..., Awaitable[None]]:
    if not callable(protected_by):
        raise ArgumentTypeError(
            f"{name}: expected a dependency, got {protected_by!r}",
            hint="A function that raises HTTPException(403) unless the caller is an administrator.",
        )
    if isinstance(protected_by, starlette.CurrentUser):
        raise ArgumentValueError(
            f"{name}: every user who has signed up passes a CurrentUser",
            hint="Write a dependency on it that checks the user's permissions, for instance in app_metadata.",
        )

    async def guard(verdict: Annotated[Any, Depends(protected_by)], request: Request) -> None:
        headers = request.headers
        site, authorization = headers.get("sec-fetch-site"), headers.get("authorization")
        if verdict is False or is_from_other_site(site, authorization):
            raise HTTPException(403, "Not allowed.")

    return guard


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except UsersyncError as error:
        if error.code in INVALID:
            raise HTTPException(400, str(error)) from error
        raise HTTPException(503, f"{error.code}: {error}") from error
