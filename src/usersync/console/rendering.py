"""Renders pages and errors."""

from __future__ import annotations

import shlex
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from usersync.audit.event.entity import entity_text
from usersync.audit.formats import event_data
from usersync.config.periods import iso
from usersync.console import shown
from usersync.console.addresses import address, root_of, written
from usersync.core.sqlstates import state_name
from usersync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ConnectionFailedError,
    UserNotFoundError,
    UsersyncError,
)
from usersync.events.models import event_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

HERE = Path(__file__).parent

#: The pages of the navigation.
NAVIGATION = (
    ("/", "Overview"),
    ("/users", "Users"),
    ("/events", "Events"),
    ("/entity", "Entity timeline"),
    ("/failures", "Failures"),
    ("/rejected", "Rejected events"),
    ("/subscriptions", "Subscriptions"),
    ("/tracked", "Tracked tables"),
    ("/doctor", "Doctor"),
)

_STATUS = {
    ArgumentTypeError.code: 400,
    ArgumentValueError.code: 400,
    UserNotFoundError.code: 404,
}


class Renderer:
    """The templates, with the functions that they call."""

    def __init__(self, *, read_only: bool = True) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "shown": shown.shown,
            "name": shown.name,
            "json": shown.as_json,
            "value": shown.value_of,
            "moment": shown.moment,
            "moment_in": shown.moment_in,
            "summary": shown.summary,
            "document": event_data,
            "iso": iso,
            "event_label": event_label,
            "day_of": date.fromordinal,
            "state_name": state_name,
            "sh": shlex.quote,
            "written": written,
        }
        self._templates.globals |= {
            "ROWS": shown.ROWS,
            "DOCUMENT": shown.DOCUMENT,
            "entity_text": entity_text,
            "read_only": read_only,
        }

    def page(
        self, request: Request, template: str, status: int = 200, *, within: str = "", **values: Any
    ) -> Response:
        """A page. ``within`` goes before the paths of its links."""
        return HTMLResponse(self.part(request, template, within=within, **values), status)

    def part(self, request: Request, template: str, *, within: str = "", **values: Any) -> str:
        """A part of a page as HTML."""

        def link(path: str, query: Mapping[str, str | None] | None = None, **more: str | None) -> str:
            return address(request, within + path, {**(query or {}), **more})

        values = {"command": None, **values, "link": link, "navigation": NAVIGATION}
        values |= {"root": root_of(request), "now": iso(datetime.now(UTC))}
        values["here"] = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        return self._templates.get_template(template).render(values)

    async def usersync_error(self, request: Request, error: Exception) -> Response:
        """The page of an error that says what failed, why, and what to do."""
        if not isinstance(error, UsersyncError):
            raise error
        title = "The database is unavailable" if isinstance(error, ConnectionFailedError) else "Error"
        return self.page(
            request, "error.html", _STATUS.get(error.code, 503), title=title, error=error, code=error.code
        )

    async def http_error(self, request: Request, error: Exception) -> Response:
        """The page of an unknown path."""
        status = getattr(error, "status_code", 500)
        title = "Page not found" if status == 404 else "Error"  # noqa: PLR2004 - a status of HTTP
        text = getattr(error, "detail", "")
        return self.page(request, "error.html", status, title=title, error=text, code=None)

    async def unexpected_error(self, request: Request, _: Exception) -> Response:
        """The page of an unexpected error. Its text may contain anything, so only the server logs it."""
        text = "This page failed unexpectedly. The log of the process that serves it has the traceback."
        return self.page(request, "error.html", 500, title="Error", error=text, code=None)
