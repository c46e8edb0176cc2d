"""The fields of an event as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from usersync.audit.event.scalars import clean
from usersync.audit.formats import event_data, value_text

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord


def as_json(event: EventRecord) -> tuple[str, str]:
    """The event as it is."""
    return to_text(event_fields(event)), "application/json"


def event_fields(event: EventRecord) -> dict[str, Any]:
    """The fields of an event as JSON data. Times and ids are text."""
    fields = event_data(event)
    # The number means something to readers of this feed only.
    fields.pop("number", None)
    for name in _TEXTS:
        if (value := fields[name]) is not None:
            fields[name] = value_text(value)
    return fields


#: The fields whose type JSON does not have.
_TEXTS = ("id", "occurred_at", "recorded_at", "user_id")


def to_text(data: dict[str, Any]) -> str:
    """JSON. Half a surrogate pair, which UTF-8 does not have, becomes ``�``."""
    try:
        text = _ENCODER.encode(data)
    except ValueError:
        # jsonb stores numbers of any size, and Python reads the largest ones as infinite.
        text = _ENCODER.encode(_finite(data))
    return clean(text)


#: The fields are JSON data, so there is no circle to look for.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
