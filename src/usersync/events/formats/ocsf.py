"""OCSF 1.8, the Open Cybersecurity Schema Framework, for SIEMs.

Events of users (``user.created``) are Account Change (3001), all others API Activity (6003). Fields that
OCSF does not have are in ``unmapped``.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from usersync.events.formats.plain import event_fields, to_text
from usersync.version import __version__

if TYPE_CHECKING:
    from datetime import datetime

    from usersync.audit.models import EventRecord

VERSION = "1.8.0"

_IAM, _ACCOUNT_CHANGE = 3, 3001
_APPLICATION, _API_ACTIVITY = 6, 6003
_UNKNOWN, _OTHER = 0, 99

_ACCOUNT_ACTIVITIES = {"user.created": 1, "user.deleted": 6}

#: By the last word of an action.
_API_ACTIVITIES = {
    **dict.fromkeys(("create", "created", "insert", "inserted", "added"), 1),
    **dict.fromkeys(("read", "viewed", "exported", "downloaded"), 2),
    **dict.fromkeys(("update", "updated", "changed"), 3),
    **dict.fromkeys(("delete", "deleted", "removed"), 4),
}

_STATUS = {"succeeded": 1, "failed": 2, "denied": 2}
_SEVERITY = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

_UNMAPPED = (
    "changes",
    "metadata",
    "on_behalf_of",
    "outcome",
    "db_role",
    "traceparent",
    "entity_type",
    "entity_id",
)


def as_ocsf(event: EventRecord) -> tuple[str, str]:
    """The event as one of OCSF."""
    described = _account_change(event) if _is_about_user(event) else _api_activity(event)
    return to_text({**_base(event), **described}), "application/json"


def _is_about_user(event: EventRecord) -> bool:
    return bool(event.entity_id) and event.entity_type == "user" and (event.action or "").startswith("user.")


def _account_change(event: EventRecord) -> dict[str, Any]:
    return {
        **_class(_IAM, _ACCOUNT_CHANGE, _ACCOUNT_ACTIVITIES.get(event.action or "", _OTHER), event),
        "user": {"uid": event.entity_id},
        **_given(actor=_actor(event), src_endpoint=_given(ip=_address(event.ip))),
    }


def _api_activity(event: EventRecord) -> dict[str, Any]:
    last = (event.action or "").rpartition(".")[2].rpartition("_")[2]
    return {
        **_class(_APPLICATION, _API_ACTIVITY, _API_ACTIVITIES.get(last, _OTHER), event),
        "actor": _actor(event) or {"app_name": event.source or "unknown"},
        "api": {"operation": event.action or "unknown"},
        "src_endpoint": _given(ip=_address(event.ip)) or {"name": event.source or "unknown"},
        **_given(
            resources=_resources(event),
            http_request=_given(uid=event.request_id, user_agent=event.user_agent),
        ),
    }


def _class(category: int, number: int, activity: int, event: EventRecord) -> dict[str, Any]:
    named = {"activity_name": event.action or "unknown"} if activity == _OTHER else {}
    return {
        "category_uid": category,
        "class_uid": number,
        "activity_id": activity,
        "type_uid": number * 100 + activity,
        **named,
    }


def _base(event: EventRecord) -> dict[str, Any]:
    fields = event_fields(event)
    return {
        "time": _milliseconds(event.occurred_at),
        "severity_id": _SEVERITY.get(event.severity or "", _UNKNOWN),
        "status_id": _STATUS.get(event.outcome or "", _UNKNOWN),
        "metadata": {
            "version": VERSION,
            "product": {"name": "usersync", "vendor_name": "usersync", "version": __version__},
            **_given(
                uid=str(event.id),
                event_code=event.action,
                tenant_uid=event.tenant_id,
                correlation_uid=event.request_id,
                log_name=event.source,
                logged_time=_milliseconds(event.recorded_at) if event.recorded_at else None,
            ),
        },
        **_given(unmapped=_given(**{name: fields[name] for name in _UNMAPPED})),
    }


def _actor(event: EventRecord) -> dict[str, Any]:
    return _given(user=_given(uid=event.actor_id, type=event.actor_type) if event.actor_id else None)


def _resources(event: EventRecord) -> list[dict[str, Any]] | None:
    if not event.entity_id:
        return None
    return [_given(uid=event.entity_id, type=event.entity_type)]


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
