"""The pages: each reads its data and names the command that shows the same."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from usersync.audit import entity_state, reading, upkeep
from usersync.audit.formats import event_data, open_writer
from usersync.audit.histogram import histogram
from usersync.audit.models import EventFilter, EventPage, as_uuid
from usersync.audit.options import default_spool_dir
from usersync.audit.tracking import tables
from usersync.config.periods import iso
from usersync.config.redaction import Redactor
from usersync.console.actions import SUBSCRIPTION, USER, subject
from usersync.console.addresses import address, asked
from usersync.console.filters import (
    FILTERS,
    complete_entity_of,
    filter_of,
    given_filters,
    moment_of,
    number_of,
    options_of,
)
from usersync.console.live import Live, position_of
from usersync.console.shown import as_json
from usersync.console.spools import leftovers
from usersync.core import user_names, users, why
from usersync.core.daily_counts import sign_ups_by_day
from usersync.core.overview import overview
from usersync.core.paging import QUERY_CANCELED
from usersync.errors import (
    ArgumentValueError,
    ConnectionFailedError,
    DatabaseError,
    SettingsError,
    UserNotFoundError,
    UsersyncError,
)
from usersync.events import subscriptions
from usersync.schema import delete_plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
    from uuid import UUID

    from starlette.requests import Request

    from usersync.audit.histogram import Histogram
    from usersync.audit.models import EventRecord
    from usersync.console.actions import Actions
    from usersync.console.database import Database
    from usersync.console.rendering import Renderer
    from usersync.console.spools import Leftover
    from usersync.core.daily_counts import DayCount
    from usersync.core.user_names import NamedUsers
    from usersync.transports.steps import Steps

    Page = Callable[[Request], Awaitable[Response]]

T = TypeVar("T")

#: The number of events, failures and rejected events on a page.
_PAGE = 50
_FEW = 10
_FAILURES, _MOST_FAILURES = 100, 1_000
#: The number of rejected events up to which the overview counts.
_COUNTED = 100
#: The days of a chart, and the number up to which it counts a day.
_DAYS, _MOST_A_DAY = 30, 2_000
_CHART_LIMIT_S = 1.0
#: The time limit of a search on the page of events.
_SEARCH_LIMIT_S = 5.0
#: A histogram: its period if the filters have none, the largest count of a bar, and the time limit.
_USUAL_TIME, _FIRST = timedelta(days=7), datetime.min.replace(tzinfo=UTC) + timedelta(days=8)
_MOST_A_BAR = 5_000
_HISTOGRAM_LIMIT_S = 0.06
#: The formats of an export, the number of events that it reads at a time, and the largest number.
_EXPORTS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_EXPORT_PAGE, _MOST_EXPORTED = 1_000, 100_000
#: The message on a user's page after an action. The page itself shows the result.
_DONE = {"sync": "A sync of this user has run.", "retry": "A retry of this user has run."}
_SUBSCRIPTION_DONE = {
    "retried": "The events are due now. A worker handles them within a second.",
    "paused": "The subscription is paused.",
    "resumed": "The subscription is active.",
    "replayed": "The replay has started: workers handle the events again.",
    "nothing": "Nothing was changed: there are no such events.",
}


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of a page: its data, or the error that says why they are missing."""

    value: T | None = None
    error: UsersyncError | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of numbers by day."""

    title: str
    part: Part[tuple[DayCount, ...] | None]

    @property
    def highest(self) -> int:
        """The largest number."""
        return max((each.number for each in self.part.value or ()), default=0)


class _TooSlowError(DatabaseError):
    """A search was cancelled."""


_STATUS: dict[type, int] = {ArgumentValueError: 400, _TooSlowError: 503}


class Pages:
    """The pages of one database."""

    def __init__(self, database: Database, renderer: Renderer, actions: Actions | None = None) -> None:
        self._database = database
        self._page = renderer.page
        self._part_of_page = renderer.part
        self._live = Live(database)
        self._actions = actions

    def routes(self) -> Iterator[tuple[str, Page]]:
        """The paths and their pages."""
        yield "/", self.overview
        yield "/users", self.users
        yield "/users/{user_id}", self.user
        yield "/users/{user_id}/deletion", self.deletion
        yield "/events", self.events
        yield "/events/export", self.events_export
        yield "/events/stream", self.events_stream
        yield "/events/{event_id}", self.event
        yield "/events/{event_id}/json", self.event_as_json
        yield "/entity", self.entity
        yield "/failures", self.failures
        yield "/rejected", self.rejected
        yield "/subscriptions", self.subscriptions
        yield "/tracked", self.tracked
        yield "/doctor", self.doctor

    async def overview(self, request: Request) -> Response:
        """The last comparison and the problems as of now. Compares nothing and counts no table of users."""

        def read() -> dict[str, Any]:
            parts: dict[str, Part[Any]] = {
                "state": self._part(overview()),
                "rejected": self._part(upkeep.rejects(limit=_COUNTED + 1)),
                "newest": self._part(reading.search(EventFilter(), limit=_FEW)),
                "subscriptions": self._limited(subscriptions.subscriptions()),
            }
            # A role may read half of it.
            if parts["state"].error and all(each.error for each in parts.values()):
                raise parts["state"].error
            charts = [
                Chart("Events", self._limited(reading.events_by_day(days=_DAYS, most=_MOST_A_DAY))),
                Chart("Sign-ups", self._limited(_sign_ups())),
            ]
            return {**parts, "spools": _spools(), "charts": charts}

        return self._page(
            request,
            "overview.html",
            command="usersync status",
            target=self._database.target,
            spool_dir=default_spool_dir(),
            counted=_COUNTED,
            **await self._database.read(read),
        )

    async def users(self, request: Request) -> Response:
        """The search for a user."""
        text = asked(request, "q")
        found: tuple[list[UUID], NamedUsers | None] = ([], None)
        if text:
            found = await self._database.read(lambda: self._find(text))
        exact, named = found
        if len(exact) == 1:
            return RedirectResponse(address(request, f"/users/{exact[0]}"), 303)
        return self._page(
            request,
            "users.html",
            command=_command("usersync why", text or "USER"),
            text=text,
            found=exact,
            named=named,
            note=user_names.note(named) if named else "",
        )

    def _find(self, text: str) -> tuple[list[UUID], NamedUsers | None]:
        """The users with this id, e-mail address or phone number; if there are none, those with this name."""
        if "\0" in text:
            return [], None
        settings = self._run(reading.installed_settings())
        exact = self._run(why.find_users(settings, text))
        return exact, None if exact else self._run(user_names.find_by_name(settings, text))

    async def user(self, request: Request) -> Response:
        """One user: both rows, the failure, the effect of a sync, the newest events."""
        user_id = as_uuid("user", request.path_params["user_id"])

        def read() -> dict[str, Any]:
            settings = self._run(reading.installed_settings())
            try:
                report: why.UserReport | UserNotFoundError = self._run(why.explain_user(settings, user_id))
            except UserNotFoundError as error:
                report = error
            about = self._part(reading.search(EventFilter(user_id=user_id), limit=_FEW))
            by = self._part(reading.search(EventFilter(actor_id=user_id), limit=_FEW))
            return {"settings": settings, "report": report, "about": about, "by": by}

        found = await self._database.read(read)
        is_unknown = isinstance(found["report"], UserNotFoundError)
        is_logged = any(found[name].value and found[name].value.events for name in ("about", "by"))
        tokens = await self._tokens(request, USER, str(user_id))
        response = self._page(
            request,
            "user_unknown.html" if is_unknown else "user.html",
            404 if is_unknown and not is_logged else 200,
            is_logged=is_logged,
            command=f"usersync why {user_id}",
            user_id=str(user_id),
            effects=why.SYNC_EFFECTS,
            tokens=tokens,
            done=_DONE.get(request.query_params.get("done", "")),
            **found,
        )
        return self._with_session(request, response)

    async def deletion(self, request: Request) -> Response:
        """What a deletion of the user would delete or change. Counts a bounded number of rows."""
        user_id = as_uuid("user", request.path_params["user_id"])

        def read() -> dict[str, Any]:
            settings = self._run(reading.installed_settings())
            return {"settings": settings, "plan": self._run(delete_plan.plan_deletion(settings, user_id))}

        found = await self._database.read(read)
        return self._page(
            request,
            "deletion.html",
            command=f"usersync delete-plan {user_id}",
            user_id=str(user_id),
            fates=delete_plan.ROW_FATES,
            most=delete_plan.MOST_ROWS,
            **found,
        )

    async def events(self, request: Request) -> Response:
        """The search for events, the newest first. The first page has a histogram."""
        given = given_filters(request)
        is_first = "after" not in request.query_params
        found: dict[str, Any] = {
            "page": EventPage((), None),
            "histogram": None,
            "error": None,
            "position": "",
        }
        try:
            wanted, after = filter_of(given), request.query_params.get("after")
            search = reading.search(wanted, after=after or None, limit=_PAGE)

            def read() -> dict[str, Any]:
                # Before the search, so that a page that follows new events misses none. A role with few
                # privileges may only search.
                follows = self._part(reading.tail()).value if is_first else None
                page = self._search(search)
                histogram = self._histogram(wanted) if is_first else None
                return {
                    "page": page,
                    "histogram": histogram,
                    "position": position_of(follows.cursor if follows else None),
                }

            found |= await self._database.read(read)
        except (ArgumentValueError, _TooSlowError) as error:
            found["error"] = error
        return self._page(
            request,
            "events.html",
            _STATUS.get(type(found["error"]), 200),
            command=_command("usersync audit search", *options_of(given)),
            filters=FILTERS,
            given=given,
            is_first=is_first,
            most_exported=_MOST_EXPORTED,
            limit_s=_HISTOGRAM_LIMIT_S,
            **found,
        )

    def _search(self, search: Steps[EventPage]) -> EventPage:
        """A page of a search that has a time limit: without an index, it may read the whole log."""
        try:
            return self._database.run_limited(search, _SEARCH_LIMIT_S)
        except DatabaseError as error:
            if error.sqlstate != QUERY_CANCELED:
                raise
            raise _TooSlowError(
                f"the search took more than {_SEARCH_LIMIT_S:g} seconds and was cancelled",
                hint="Choose a shorter period (Since, Until), or add a filter that has an index: action, "
                "actor, user, entity, request or tenant.",
            ) from None

    def _histogram(self, wanted: EventFilter) -> Part[Histogram | None]:
        """The events of the filters by time: of seven days, if the filters have no time."""
        until = wanted.until or datetime.now(UTC)
        since = wanted.since or max(until, _FIRST) - _USUAL_TIME
        if since >= until:
            return Part()
        return self._part(
            histogram(wanted, since=since, until=until, most=_MOST_A_BAR, limit_s=_HISTOGRAM_LIMIT_S)
        )

    async def events_export(self, request: Request) -> Response:
        """The events that match the filters, the newest first, as a file. One page is in memory at a time."""
        kind = request.query_params.get("format", "")
        if kind not in _EXPORTS:
            raise ArgumentValueError(f"format: expected {' or '.join(_EXPORTS)}, got {kind!r:.80}")
        wanted = filter_of(given_filters(request))
        # An error of the first page is shown as a page.
        first = await self._read(reading.search(wanted, limit=_EXPORT_PAGE))

        async def parts() -> AsyncIterator[bytes]:
            page, rest, sink = first, _MOST_EXPORTED, BytesIO()
            with open_writer(kind, sink) as write:
                while True:
                    write(page.events)
                    yield sink.getvalue()
                    sink.seek(0)
                    sink.truncate()
                    rest -= len(page.events)
                    if page.next is None or rest <= 0:
                        return
                    limit = min(_EXPORT_PAGE, rest)
                    page = await self._read(reading.search(wanted, after=page.next, limit=limit))

        return StreamingResponse(
            parts(),
            media_type=_EXPORTS[kind],
            headers={"Content-Disposition": f'attachment; filename="events.{kind}"'},
        )

    async def events_stream(self, request: Request) -> Response:
        """The rows of new events for an open page, as server-sent events."""
        wanted = filter_of(given_filters(request))
        # A browser that connects again sends the position of the last event that it got.
        after = request.headers.get("last-event-id") or request.query_params.get("position") or None

        def render(event: EventRecord) -> str:
            return self._part_of_page(request, "event_row.html", event=event)

        return StreamingResponse(
            self._live.stream(wanted, render, request.scope.get("root_path", ""), after),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},  # nginx would collect the events.
        )

    async def event(self, request: Request) -> Response:
        """One event, its changes, the other events of its request, its JSON."""
        event_id = as_uuid("event", request.path_params["event_id"])

        def read() -> dict[str, Any]:
            found = self._stored(event_id)
            request_id = found[0].request_id
            related = EventPage((), None)
            if request_id:
                related = self._run(reading.search(EventFilter(request_id=request_id), limit=_PAGE))
            return {"events": found, "related": [each for each in related.events if each.id != event_id]}

        found = await self._database.read(read)
        return self._page(
            request, "event.html", command=f"usersync audit show {event_id}", event_id=event_id, **found
        )

    async def event_as_json(self, request: Request) -> Response:
        """The stored event as a JSON document, complete."""
        event_id = as_uuid("event", request.path_params["event_id"])
        found = await self._database.read(lambda: self._stored(event_id))
        document = as_json([event_data(each) for each in found], indent=2)
        return Response(document, media_type="application/json")

    def _stored(self, event_id: UUID) -> tuple[EventRecord, ...]:
        found = self._run(reading.show(event_id))
        if not found:
            raise HTTPException(404, f"The audit log has no event {event_id}.")
        return found

    async def entity(self, request: Request) -> Response:
        """The events of one entity, the oldest first, field by field. With a time, its state then."""
        entity = asked(request, "entity")
        times = {name: asked(request, name) for name in ("from", "at")}
        if entity and any(times.values()):
            return await self._entity_state(request, entity, times)
        page, kind = None, None
        if entity:
            kind, key = complete_entity_of(entity)
            after = request.query_params.get("after") or None
            page = await self._read(reading.history(kind, key, after=after, limit=_PAGE))
        return self._page(
            request,
            "entity.html",
            command=_command("usersync audit history", entity or "TYPE/ID"),
            entity=entity,
            kind=kind,
            times=times,
            page=page,
            is_first="after" not in request.query_params,
        )

    async def _entity_state(self, request: Request, entity: str, given: Mapping[str, str]) -> Response:
        """The state of an entity at a time, or the difference of two. The URL has complete times."""
        kind, key = complete_entity_of(entity)
        at = moment_of("at", given["at"]) if given["at"] else datetime.now(UTC)
        since = moment_of("from", given["from"]) if given["from"] else None
        if since is not None and since >= at:
            raise ArgumentValueError("from must be before at")
        times = {"from": iso(since) if since else "", "at": iso(at)}
        if times != given:
            return RedirectResponse(address(request, "/entity", {"entity": entity, **times}), 303)

        def read() -> dict[str, Any]:
            state = self._run(entity_state.state_at(kind, key, at))
            if since is None:
                return {"states": [state], "changes": ()}
            before = self._run(entity_state.state_at(kind, key, since))
            return {"states": [before, state], "changes": entity_state.difference(before, state)}

        options = [word for name, time in times.items() if time for word in (f"--{name}", time)]
        return self._page(
            request,
            "entity_state.html",
            command=_command("usersync audit history", entity, *options),
            entity=entity,
            times=times,
            **await self._database.read(read),
        )

    async def failures(self, request: Request) -> Response:
        """The failures table, the oldest failure first."""
        most = _MOST_FAILURES if "all" in request.query_params else _FAILURES
        found = await self._read(users.failures(limit=most + 1))
        return self._page(
            request,
            "failures.html",
            command="usersync failures",
            failures=found[:most],
            more=len(found) > most,
            most=_MOST_FAILURES if most < _MOST_FAILURES else None,
        )

    async def rejected(self, request: Request) -> Response:
        """The rejected events in order."""
        after = number_of("after", request.query_params.get("after", "0"))
        found = await self._read(upkeep.rejects(after=after, limit=_PAGE + 1))
        return self._page(
            request,
            "rejected.html",
            command="usersync audit rejects",
            rejects=found[:_PAGE],
            next=str(found[_PAGE - 1].reject_id) if len(found) > _PAGE else None,
            is_first=after == 0,
        )

    async def subscriptions(self, request: Request) -> Response:
        """All subscriptions; with a name one of them, its parked events and attempts."""
        if name := asked(request, "name"):
            return await self._subscription(request, name)
        found = await self._read(subscriptions.subscriptions())
        return self._page(
            request, "subscriptions.html", command="usersync subscriptions list", subscriptions=found
        )

    async def _subscription(self, request: Request, name: str) -> Response:
        if "\0" in name:
            raise HTTPException(404, "There is no such subscription.")
        given = request.query_params
        event_id = as_uuid("event", given["event"]) if given.get("event") else None
        before = number_of("before", given["before"]) if given.get("before") else None

        def read() -> dict[str, Any]:
            found = {each.name: each for each in self._run(subscriptions.subscriptions())}
            if name not in found:
                raise HTTPException(404, "There is no such subscription.")
            tried = self._run(subscriptions.attempts(name, event_id=event_id, before=before, limit=_PAGE + 1))
            return {
                "subscription": found[name],
                "attempts": tried[:_PAGE],
                "next": str(tried[_PAGE - 1].attempt_id) if len(tried) > _PAGE else None,
            } | {
                state: self._run(subscriptions.parked_events(name, state=state, limit=_PAGE))
                for state in ("dead", "waiting")
            }

        shown = await self._database.read(read)
        command = ["attempts", name, "--event", str(event_id)] if event_id else ["show", name]
        response = self._page(
            request,
            "subscription.html",
            command=_command("usersync subscriptions", *command),
            name=name,
            event=str(event_id) if event_id else None,
            is_first=before is None,
            most=_PAGE,
            tokens=await self._tokens(request, SUBSCRIPTION, subject(name)),
            done=_SUBSCRIPTION_DONE.get(given.get("done", "")),
            **shown,
        )
        return self._with_session(request, response)

    async def _tokens(self, request: Request, names: Iterable[str], of: str) -> dict[str, str] | None:
        return await self._actions.tokens(request, names, of) if self._actions else None

    def _with_session(self, request: Request, response: Response) -> Response:
        return self._actions.keep_session(request, response) if self._actions else response

    async def tracked(self, request: Request) -> Response:
        """The tables whose changes are recorded."""

        def read() -> tuple[tables.TrackedTable, ...]:
            settings = self._run(reading.installed_settings())
            return self._run(tables.tracked(settings, Redactor().is_secret))

        found = await self._database.read(read)
        return self._page(request, "tracked.html", command="usersync audit tracked", tables=found)

    async def doctor(self, request: Request) -> Response:
        """The checks of the doctor. They run only on request, because some read both tables of users."""
        run = "run" in request.query_params
        found = await self._database.read(self._database.doctor) if run else None
        return self._page(request, "doctor.html", command="usersync doctor", checks=found)

    async def _read(self, operation: Steps[T]) -> T:
        return await self._database.read(lambda: self._run(operation))

    def _run(self, operation: Steps[T]) -> T:
        return self._database.run(operation)

    def _limited(self, operation: Steps[T]) -> Part[T]:
        return self._part(operation, run=lambda given: self._database.run_limited(given, _CHART_LIMIT_S))

    def _part(self, operation: Steps[T], run: Callable[[Steps[T]], T] | None = None) -> Part[T]:
        """A part of a page. If it fails, the others are shown."""
        try:
            return Part((run or self._run)(operation))
        except ConnectionFailedError:
            raise
        except UsersyncError as error:
            return Part(error=error)


def _sign_ups() -> Steps[tuple[DayCount, ...] | None]:
    settings = yield from reading.installed_settings()
    return (yield from sign_ups_by_day(settings, days=_DAYS, most=_MOST_A_DAY))


def _spools() -> Part[tuple[Leftover, ...]]:
    try:
        return Part(leftovers(default_spool_dir()))
    except OSError as error:
        return Part(error=SettingsError(f"cannot read the spools of this machine: {error.strerror}"))


def _command(command: str, *words: str) -> str:
    return " ".join([command, *map(shlex.quote, words)])
