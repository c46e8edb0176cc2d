"""The fields of an event as JSON."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from usersync.audit.event.scalars import clean

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord

#: Fields that only mean something inside the log.
_INTERNAL = {"number", "tie"}


def as_json(event: EventRecord) -> tuple[str, str]:
    """The event as it is."""
    return to_text(event_fields(event)), "application/json"


def event_fields(event: EventRecord) -> dict[str, Any]:
    """The fields of an event, for ``to_text``."""
    return {name: value for name, value in vars(event).items() if name not in _INTERNAL}


def to_text(data: dict[str, Any]) -> str:
    """JSON. Half a surrogate pair, which UTF-8 does not have, becomes ``�``."""
    try:
        text = _ENCODER.encode(data)
    except ValueError:
        # jsonb stores numbers of any size, and Python reads the largest ones as infinite.
        text = _ENCODER.encode(_finite(data))
    return clean(text)


def _text_of(value: object) -> str:
    """A time in ISO 8601, an id as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_text_of)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
