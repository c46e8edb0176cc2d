"""What web pages and routers take and answer that read the audit log."""

# No `annotations` future import: pydantic reads the annotations.
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from usersync.audit.models import EventPage, EventRecord, FieldChange
from usersync.errors import ArgumentTypeError, ArgumentValueError

#: The default and the maximum of events on a page.
USUAL_PAGE, LARGEST_PAGE = 50, 500

#: The codes of errors that the request causes.
INVALID = {ArgumentTypeError.code, ArgumentValueError.code}

#: Audit events are not for caches.
HEADERS = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class AuditEvent:
    """A stored event. Times are in UTC."""

    id: UUID | None
    occurred_at: datetime
    recorded_at: datetime | None
    action: str | None
    outcome: str | None
    actor_id: str | None
    actor_type: str | None
    user_id: UUID | None
    entity_type: str | None
    entity_id: str | None
    changes: list[FieldChange]
    metadata: Any
    request_id: str | None
    ip: str | None
    user_agent: str | None
    source: str | None
    #: The customer (organisation) that the event belongs to.
    tenant_id: str | None
    #: With impersonation: the user for whom the actor acted.
    on_behalf_of: str | None
    db_role: str | None
    traceparent: str | None
    severity: str | None

    @classmethod
    def of(cls, event: EventRecord) -> "AuditEvent":
        """The answer for an event."""
        given = {name: getattr(event, name) for name in cls.__dataclass_fields__ if name != "changes"}
        return cls(changes=list(event.field_changes), **given)


@dataclass(frozen=True)
class AuditPage:
    """A page of events. ``next`` is the link to the next page, relative to this one; null after the last."""

    events: list[AuditEvent]
    next: str | None

    @classmethod
    def of(cls, page: EventPage, query: Iterable[tuple[str, str]]) -> "AuditPage":
        """The answer for a page, which was found with the parameters ``query``."""
        link = None
        if page.next is not None:
            link = "?" + urlencode([*(each for each in query if each[0] != "after"), ("after", page.next)])
        return cls([AuditEvent.of(event) for event in page.events], link)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return HEADERS | ({"Link": f'<{self.next}>; rel="next"'} if self.next else {})


def filters_of(given: dict[str, str]) -> dict[str, Any]:
    """The arguments of ``search()``. Raises ``ArgumentValueError``."""
    wanted: dict[str, Any] = paging_of(given)
    if "entity_id" in wanted:
        wanted["entity"] = (wanted.get("entity_type"), wanted.pop("entity_id"))
    for name in {"since", "until"} & wanted.keys():
        try:
            wanted[name] = datetime.fromisoformat(wanted[name])
        except ValueError:
            raise ArgumentValueError(f"{name}: expected a time, as in 2026-03-31T18:30:00Z") from None
    if "oldest_first" in wanted:
        wanted["oldest_first"] = wanted["oldest_first"].lower() in {"1", "true"}
    return wanted


def paging_of(given: dict[str, str]) -> dict[str, Any]:
    limit = given.get("limit", str(USUAL_PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= LARGEST_PAGE):  # noqa: PLR2004
        raise ArgumentValueError(f"limit: expected 1 to {LARGEST_PAGE}, got {limit!r:.80}")
    return {**given, "limit": int(limit)}
