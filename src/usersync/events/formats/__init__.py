"""The forms in which an event leaves usersync: CloudEvents, plain JSON, and OCSF.

Each contains what the log has, and nothing more: values are redacted when an event is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from usersync.events.formats.cloudevents import as_cloudevent
from usersync.events.formats.ocsf import as_ocsf
from usersync.events.formats.plain import as_json

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord

#: Returns the text of an event, and its content type.
Format = Callable[["EventRecord"], tuple[str, str]]

FORMATS: Mapping[str, Format] = {"cloudevents": as_cloudevent, "json": as_json, "ocsf": as_ocsf}

DEFAULT_FORMAT = "cloudevents"
