"""The page of the audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.template.response import TemplateResponse
from django.urls import reverse

from usersync.audit import EventPage
from usersync.audit.models import OUTCOMES
from usersync.config.audit_rules import SEVERITIES
from usersync.contrib.audit_pages import INVALID, filters_of
from usersync.contrib.django.audit_admin.models import AuditEvent
from usersync.contrib.django.log import audit_log
from usersync.errors import UsersyncError

if TYPE_CHECKING:
    from django.http import HttpRequest

    from usersync.audit import EventRecord

__all__ = ["AuditEventAdmin"]


@admin.register(AuditEvent)
class AuditEventAdmin(admin.ModelAdmin):
    """A list with filters, the newest event first, and a page of each event with its changes.

    Times are in UTC. A list has ``list_per_page`` events and links to the next page; nothing counts the
    events. The pages cannot add, change or delete an event.
    """

    list_per_page: int = 100

    #: The filters, with their labels.
    filters: ClassVar[dict[str, str]] = {
        "action": "Action (product.* is a prefix)",
        "entity_type": "Entity type",
        "entity_id": "Entity id",
        "actor_id": "Actor",
        "user_id": "User",
        "outcome": "Outcome",
        "request_id": "Request",
        "tenant_id": "Tenant",
        "on_behalf_of": "On behalf of",
        "severity": "Severity",
        "since": "Since (UTC)",
        "until": "Until (UTC)",
        "text": "Words in metadata and changes",
    }

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - likewise
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - likewise
        """Return False."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Return the list. Reads one page of events."""
        self._require_permission(request)
        known = {*self.filters, "after"}
        given = {name: value for name, value in request.GET.items() if value and name in known}
        status, page, error = 200, EventPage((), None), None
        try:
            page = audit_log().search(**{**filters_of(given), "limit": self.list_per_page})
        except UsersyncError as found:
            status, error = 400 if found.code in INVALID else 503, str(found)
        return self._answer(
            request,
            "usersync_audit/list.html",
            status,
            {
                "rows": [(event, self._link(event), _summary(event)) for event in page.events],
                "filters": [
                    (name, label, given.get(name, ""), _CHOICES.get(name))
                    for name, label in self.filters.items()
                ],
                "next": "?" + urlencode({**given, "after": page.next}) if page.next else None,
                "first": "?" + urlencode({name: value for name, value in given.items() if name != "after"}),
                "is_first": "after" not in given,
                "error": error,
                **(extra_context or {}),
            },
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Return the page of one event."""
        del form_url
        self._require_permission(request)
        try:
            event = audit_log().get(UUID(object_id))
        except ValueError:
            event = None
        if event is None:
            raise Http404(f"the audit log has no event {object_id}")
        apart = {"changes", "metadata", "tie"}
        entity = urlencode({"entity_type": event.entity_type or "", "entity_id": event.entity_id or ""})
        return self._answer(
            request,
            "usersync_audit/event.html",
            200,
            {
                "event": event,
                "facts": [(name, value) for name, value in vars(event).items() if name not in apart],
                "changes": _changes(event),
                "metadata": _json(event.metadata, indent=2) if event.metadata else None,
                "history": f"{self._url('changelist')}?{entity}" if event.entity_id else None,
                **(extra_context or {}),
            },
        )

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Return the page of the event: an event does not change, so it has no history."""
        return self.change_view(request, object_id, extra_context=extra_context)

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _answer(self, request: HttpRequest, template: str, status: int, context: dict[str, Any]) -> Any:
        found = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Audit log",
            "changelist": self._url("changelist"),
            **context,
        }
        answer = TemplateResponse(request, template, found, status=status)
        answer["Cache-Control"] = "no-store"
        return answer

    def _link(self, event: EventRecord) -> str | None:
        return self._url("change", str(event.id)) if event.id else None

    def _url(self, view: str, *arguments: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return str(reverse(name, args=arguments, current_app=self.admin_site.name))


def _changes(event: EventRecord) -> list[tuple[str, str, str]]:
    return [(each.name, _json(each.before), _json(each.after)) for each in event.field_changes]


def _summary(event: EventRecord) -> str:
    text = ", ".join(f"{name}: {before} → {after}" for name, before, after in _changes(event))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


_CHOICES = {"outcome": OUTCOMES, "severity": SEVERITIES}
_LONGEST = 300


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
