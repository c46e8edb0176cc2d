"""Converts the arguments of ``record()`` to the JSON that ``record_audit_events`` takes."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from usersync.audit.event.clock import Clock, moment
from usersync.audit.event.context import current, merged, with_actor
from usersync.audit.event.diff import difference, from_pairs
from usersync.audit.event.entity import stored_entity_of
from usersync.audit.event.fields import CONTEXT, ContextFields, EventFields
from usersync.audit.event.objects import class_name, fields_of, identity_of
from usersync.audit.event.scalars import SCALARS, cut
from usersync.audit.event.tracing import current_trace
from usersync.audit.event.values import Json, Limits, encode, to_json
from usersync.config.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The table's limit for every text except the user agent.
LABEL_LENGTH = 200
USER_AGENT_LENGTH = 2_000

# Room for the marker that cut() appends.
_MARKER_LENGTH = 120

_REDACTOR = Redactor()
_LABEL = Limits(text=16_384, items=20, depth=2)

_UUID = re.compile(r"\{?[0-9a-fA-F]{4}(-?[0-9a-fA-F]{4}){7}\}?")

#: The fields that no context has.
_OWN = EventFields.__optional_keys__ - ContextFields.__optional_keys__

_FULL_LIMITS = Limits()

#: Limits to try in turn until the event fits.
_SMALLER_LIMITS = (
    Limits(text=1_024, items=100, depth=8, nodes=1_000),
    Limits(text=128, items=20, depth=4, nodes=200),
)


class EventArguments(NamedTuple):
    """The caller's arguments. ``fields`` are those of ``EventFields``; None is like an omitted field."""

    action: object
    fields: Mapping[str, object] = MappingProxyType({})


class Event(NamedTuple):
    """An event that can be stored; ``payload`` is JSON in UTF-8."""

    id: str
    payload: bytes


class EventBuilder:
    """Builds events. Threads may share it. ``build()`` raises only ``MemoryError``."""

    def __init__(self, redactor: Redactor, max_bytes: int) -> None:
        self._redactor = redactor
        self._max_bytes = max_bytes
        self._clock = Clock()

    def build(self, given: EventArguments) -> Event:
        """Build the event with the caller's context."""
        event_id, occurred_at = self._clock.read()
        head: dict[str, Json] = {"id": event_id, "occurred_at": occurred_at}
        try:
            payload = encode(head | self._body(given, _FULL_LIMITS, head))
        except Exception as error:  # noqa: BLE001 - an argument's own code raised: record the event without it
            metadata: dict[str, Json] = {"unreadable": class_name(error)}
            payload = encode(head | {"action": label(given.action), "metadata": metadata})
        if len(payload) > self._max_bytes:
            payload = self._cut(given, head, payload)
        return Event(event_id, payload)

    def _body(self, given: EventArguments, limits: Limits, head: dict[str, Json]) -> dict[str, Json]:
        own: dict[str, Any] = {}
        # The current span. It replaces the span in the context, which is that of the request. The caller's
        # own comes first.
        shared: dict[str, Any] = {**current_trace()}
        for name, value in given.fields.items():
            if value is not None:
                (own if name in _OWN else shared)[name] = value
        fields = _in_context(shared)
        metadata = fields.pop("metadata", None)
        body: dict[str, Json] = {
            "action": label(given.action),
            "outcome": label(own.get("outcome", "succeeded")),
        }
        ip = fields.pop("ip", None)
        written = to_json(metadata, self._redactor, limits) if metadata is not None else {}
        extra: dict[str, Json] = written if isinstance(written, dict) else {"value": written}
        _name_actor(body, fields, extra)
        if "entity" in own:
            _name_entity(body, own["entity"])
        changes = self._changes(own, limits)
        if changes:
            body["changes"] = changes
        if ip is not None:
            _locate(body, ip, extra)
        if "occurred_at" in own:
            _date(head, own["occurred_at"], extra)
        if extra:
            body["metadata"] = extra
        body["source"] = "app"
        return body

    def _changes(self, own: Mapping[str, Any], limits: Limits) -> dict[str, Json]:
        changes: dict[str, Json] = {}
        if "before" in own or "after" in own:
            changes = difference(own.get("before"), own.get("after"), self._redactor, limits)
        if "changes" in own:
            changes |= from_pairs(own["changes"], self._redactor, limits)
        return changes

    def _cut(self, given: EventArguments, head: dict[str, Json], whole: bytes) -> bytes:
        """The event with its values cut, and the SHA-256 of the complete event."""
        note = f"[cut: {len(whole)} bytes, sha256 {hashlib.sha256(whole).hexdigest()}]"
        body: dict[str, Json] = {}
        for limits in _SMALLER_LIMITS:
            body = self._body(given, limits, head)
            metadata = body.get("metadata")
            body["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "[cut]": note}
            payload = encode(head | body)
            if len(payload) <= self._max_bytes:
                return payload
        body.pop("changes", None)
        return encode(head | body | {"metadata": {"[cut]": note}})


def _in_context(known: dict[str, Any]) -> dict[str, Any]:
    context = current()
    if not known:
        return dict(with_actor(context))
    if context or not known.keys() <= CONTEXT:
        known = merged(context, known)
    return dict(with_actor(known))


def _name_actor(body: dict[str, Json], fields: dict[str, Any], metadata: dict[str, Json]) -> None:
    for name, value in fields.items():
        if value is not None:
            body[name] = label(value, USER_AGENT_LENGTH if name == "user_agent" else LABEL_LENGTH)
    if "actor_id" in body:
        body.setdefault("actor_type", "user")
    user_id = body.get("user_id")
    if isinstance(user_id, str) and not _UUID.fullmatch(user_id):
        # The column is a uuid. With another text the database would reject the event.
        metadata["user_id_unreadable"] = body.pop("user_id")


def _name_entity(body: dict[str, Json], entity: object) -> None:
    try:
        kind, key = stored_entity_of(entity)
    except Exception:  # noqa: BLE001 - the object's own code raised
        kind, key = f"[unreadable: {class_name(entity)}]", None
    body["entity_type"] = label(kind)
    # An object that is not stored yet has no id.
    if key is not None:
        body["entity_id"] = label(key)


def _locate(body: dict[str, Json], ip: object, metadata: dict[str, Json]) -> None:
    """Set the IP address. A text that is not an address ("unknown", a host name) is kept in the metadata."""
    text = label(ip)
    found = address(text)
    if found is None:
        metadata["ip_unreadable"] = text
    else:
        body["ip"] = found


@lru_cache(1024)
def address(text: str) -> str | None:
    """Return the IP address without port, brackets, or the zone of a link-local address."""
    bare = text.strip().rsplit(":", 1)[0] if text.count(":") == 1 else text.strip()
    bare = bare.removeprefix("[").split("]", 1)[0].split("%", 1)[0]
    try:
        return str(ip_address(bare))
    except ValueError:
        return None


def _date(head: dict[str, Json], occurred_at: object, metadata: dict[str, Json]) -> None:
    """Set the time that the caller passed. A value that is not a time is kept in the metadata."""
    found = moment(occurred_at)
    if found is None:
        metadata["occurred_at_unreadable"] = label(occurred_at)
    else:
        head["occurred_at"] = found


def label(value: object, limit: int = LABEL_LENGTH) -> str:
    """A short text for any value, of at most ``limit`` characters.

    For a record it is the id, or the class: ``actor_id=user`` must not store the user's e-mail address or the
    hash of the password.
    """
    if type(value) is str and len(value) <= limit and value.isascii() and "\x00" not in value:
        return value
    if type(value) not in SCALARS:
        value = _identity(value)
    written = to_json(value, _REDACTOR, _LABEL)
    text = written if isinstance(written, str) else encode(written).decode()
    return text if len(text) <= limit else cut(text, limit - _MARKER_LENGTH)


def _identity(value: object) -> object:
    """Return the value, or, for a record, its id or class."""
    try:
        if fields_of(value) is None:
            return value
        found = identity_of(value)
    except Exception:  # noqa: BLE001 - the object's own code raised
        return f"[unreadable: {class_name(value)}]"
    return found if found is not None else f"[object: {class_name(value)}]"
