"""The viewer for customers: the events of one tenant, behind a signed link."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from usersync.audit import reading
from usersync.audit.models import EventFilter, EventPage, EventRecord, as_uuid
from usersync.config.dsn import sealed
from usersync.console.addresses import asked
from usersync.console.application import Headers, check_source
from usersync.console.database import Database
from usersync.console.filters import FILTERS, complete_entity_of, filter_of, given_filters
from usersync.console.links import InvalidLinkError, checked_keys, tenant_of
from usersync.console.rendering import HERE, Renderer
from usersync.console.shown import as_json
from usersync.errors import ArgumentValueError, DatabaseError, SettingsError, UsersyncError
from usersync.sql.audit_expressions import READABLE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg_pool import ConnectionPool
    from starlette.requests import Request
    from starlette.types import ASGIApp

_PAGE = 50
#: The time limit for the statements of a page.
_LIMIT_S = 5.0

#: Without those over values that a customer does not see: a match would tell them.
_FILTERS = tuple(
    each
    for each in FILTERS
    if each.name in {"action", "actor_id", "entity", "outcome", "severity", "since", "until", "on_behalf_of"}
)

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")

#: The variables of the style sheet.
_VARIABLES = {"text", "page", "faint", "line", "surface", "link", "good", "bad", "warning", "font"}
#: Values that cannot end the declaration, and load nothing.
_VALUE = re.compile(r"(?!.*url\()[\w #%.,()\"'/+-]+", re.IGNORECASE)


def viewer(
    source: str | ConnectionPool[Any],
    *,
    keys: Sequence[str],
    frame_ancestors: Collection[str] = (),
    metadata: Collection[str] = (),
    title: str = "Activity",
    theme: Mapping[str, str] | None = None,
) -> ASGIApp:
    """Return an ASGI application that shows the events of one tenant to those who have a link to them.

    ``viewer_link()`` makes the links. A link signed with one of ``keys`` is valid. Of an event, the pages
    show the columns that ``[audit] tenants_read`` opens: not ``request_id``, ``user_agent``, ``user_id`` and
    the columns about the database. Of its metadata, they show the keys in ``metadata`` only.

    ``source`` is a connection string or a ``psycopg_pool.ConnectionPool``. ``frame_ancestors`` are the
    origins, such as ``https://app.example.com``, whose pages may show the viewer in a frame. ``title`` is the
    heading. ``theme`` sets variables of the style sheet: text, page, faint, line, surface, link, good, bad,
    warning (colours) and font.

    Raises ``SettingsError`` for invalid arguments. Opens no connection.
    """
    check_source(source)
    if isinstance(frame_ancestors, str) or not all(map(_ORIGIN.fullmatch, frame_ancestors)):
        raise SettingsError(
            "frame_ancestors: expected a list of origins, for example ['https://app.example.com']"
        )
    if isinstance(metadata, str):
        raise SettingsError("metadata: expected a list of keys, for example ['plan']")
    sheet = _style_sheet(theme or {})
    renderer = Renderer()
    pages = _Pages(Database(sealed(source)), renderer, checked_keys(keys), frozenset(metadata), title)

    async def style(_: Request) -> Response:
        return Response(sheet, media_type="text/css")

    application = Starlette(
        routes=[
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route("/theme.css", style, methods=["GET"]),
            Route("/{token}/", pages.events, methods=["GET"]),
            Route("/{token}/entity", pages.entity, methods=["GET"]),
            Route("/{token}/events", pages.events, methods=["GET"]),
            Route("/{token}/events/{event_id}", pages.event, methods=["GET"]),
            Route("/{token}/events/{event_id}/json", pages.event_as_json, methods=["GET"]),
        ],
        exception_handlers={
            InvalidLinkError: pages.invalid_link,
            ArgumentValueError: pages.invalid_argument,
            UsersyncError: pages.unavailable,
            HTTPException: pages.http_error,
            Exception: pages.unexpected_error,
        },
    )
    return Headers(application, frame_ancestors, sources="script-src 'self'; ")


def _style_sheet(theme: Mapping[str, str]) -> str:
    for name, value in theme.items():
        if name not in _VARIABLES:
            raise SettingsError(f"theme: expected one of {', '.join(sorted(_VARIABLES))}, got {name!r:.80}")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise SettingsError(f"theme: {value!r:.80} is not a colour or a font")
    return ":root { " + " ".join(f"--{name}: {value};" for name, value in theme.items()) + " }\n"


class _Pages:
    """The pages of all tenants. Each request names its own in the signed token."""

    def __init__(
        self,
        database: Database,
        renderer: Renderer,
        keys: Sequence[str],
        metadata: frozenset[str],
        title: str,
    ) -> None:
        self._database = database
        self._renderer = renderer
        self._keys = keys
        self._metadata = metadata
        self._title = title

    async def events(self, request: Request) -> Response:
        """The search for events, the newest first."""
        tenant = self._tenant(request)
        given = given_filters(request, _FILTERS)
        page, error = EventPage((), None), None
        try:
            page = await self._search(request, filter_of(given, tenant_id=tenant))
        except ArgumentValueError as found:
            error = found
        return self._page(
            request,
            "viewer_events.html",
            400 if error else 200,
            filters=_FILTERS,
            given=given,
            page=page,
            error=error,
            is_first="after" not in request.query_params,
        )

    async def entity(self, request: Request) -> Response:
        """The tenant's events of one entity, the oldest first."""
        tenant = self._tenant(request)
        entity = asked(request, "entity")
        kind, key = complete_entity_of(entity)
        wanted = EventFilter(tenant_id=tenant, entity_type=kind, entity_id=key)
        page = await self._search(request, wanted, oldest_first=True)
        return self._page(
            request,
            "viewer_entity.html",
            entity=entity,
            page=page,
            is_first="after" not in request.query_params,
        )

    async def event(self, request: Request) -> Response:
        """One event of the tenant."""
        found = await self._stored(request)
        return self._page(request, "viewer_event.html", events=found)

    async def event_as_json(self, request: Request) -> Response:
        """The same event as a JSON document, complete."""
        names = (*READABLE_COLUMNS, *(["metadata"] if self._metadata else []))
        found = [{name: getattr(each, name) for name in names} for each in await self._stored(request)]
        return Response(as_json(found, indent=2), media_type="application/json")

    async def _search(
        self, request: Request, wanted: EventFilter, *, oldest_first: bool = False
    ) -> EventPage:
        after = request.query_params.get("after") or None
        search = reading.search(wanted, after=after, limit=_PAGE, oldest_first=oldest_first)
        page = await self._database.read(lambda: self._database.run_limited(search, _LIMIT_S))
        return EventPage(tuple(map(self._visible, page.events)), page.next)

    async def _stored(self, request: Request) -> tuple[EventRecord, ...]:
        tenant = self._tenant(request)
        event_id = as_uuid("event", request.path_params["event_id"])
        operation = reading.show(event_id, tenant_id=tenant)
        found = await self._database.read(lambda: self._database.run_limited(operation, _LIMIT_S))
        if not found:
            raise HTTPException(404)
        return tuple(map(self._visible, found))

    def _visible(self, event: EventRecord) -> EventRecord:
        """The event without the fields that a customer does not see."""
        hidden: dict[str, Any] = {
            each.name: None for each in fields(event) if each.name not in {*READABLE_COLUMNS, "tie"}
        }
        stored = event.metadata if isinstance(event.metadata, Mapping) else {}
        hidden["metadata"] = {name: value for name, value in stored.items() if name in self._metadata}
        return replace(event, **hidden)

    def _tenant(self, request: Request) -> str:
        return tenant_of(request.path_params["token"], self._keys)

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        token = request.path_params.get("token")
        within = f"/{token}" if token else ""
        return self._renderer.page(request, template, status, within=within, heading=self._title, **values)

    def _problem(self, request: Request, status: int, text: str, hint: str | None = None) -> Response:
        return self._page(request, "viewer_error.html", status, text=text, hint=hint)

    async def invalid_link(self, request: Request, _: Exception) -> Response:
        """The page of an invalid link. It does not say why the link is invalid."""
        return self._problem(
            request, 403, "This link has expired or is invalid.", "Open it again from where you got it."
        )

    async def invalid_argument(self, request: Request, error: Exception) -> Response:
        """The page of an invalid URL."""
        return self._problem(request, 400, str(error), getattr(error, "hint", None))

    async def http_error(self, request: Request, error: Exception) -> Response:
        """The page of an unknown path, and of an event that does not exist or belongs to another tenant."""
        status = getattr(error, "status_code", 500)
        text = "This page does not exist." if status == 404 else "Error"  # noqa: PLR2004 - a status of HTTP
        return self._problem(request, status, text)

    async def unavailable(self, request: Request, error: Exception) -> Response:
        """The page of an error of usersync. Only the server's log has its text."""
        if isinstance(error, DatabaseError) and error.sqlstate == "57014":
            return self._problem(
                request, 503, f"The search took more than {_LIMIT_S:.0f} seconds.", "Choose a shorter time."
            )
        _log.error("a page of the viewer failed", exc_info=error)
        return await self.unexpected_error(request, error)

    async def unexpected_error(self, request: Request, _: Exception) -> Response:
        """The page of an unexpected error, which the server logs."""
        return self._problem(request, 503, "The events are not available at the moment.", "Try again later.")


_log = logging.getLogger("usersync.console")
