"""CloudEvents 1.0 in JSON, in structured mode: the body has the attributes and the data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from usersync.events.formats.plain import event_fields, to_text

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord

#: Characters that a string of CloudEvents does not have.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def as_cloudevent(event: EventRecord) -> tuple[str, str]:
    """The event as a CloudEvent: ``type`` is the action, ``subject`` the entity, ``data`` all fields."""
    data = event_fields(event)
    attributes = {
        "specversion": "1.0",
        "id": str(data["id"]),
        "source": f"usersync:{quote(event.source or 'log', safe='')}",
        "type": event.action or "unknown",
        "subject": "/".join(part for part in (event.entity_type, event.entity_id) if part),
        "time": data["occurred_at"],
        "datacontenttype": "application/json",
        "traceparent": event.traceparent,
    }
    given: dict[str, Any] = {
        # Of most texts, Python knows faster that they have no such character.
        name: value if value.isprintable() else _CONTROL.sub("�", value)
        for name, value in attributes.items()
        if value
    }
    given["data"] = data
    return to_text(given), "application/cloudevents+json; charset=utf-8"
