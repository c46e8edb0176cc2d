"""The fields of an event, with their types, and the only place that checks what callers pass.

A field is a line of one of the three classes. Its type says what is accepted, for type checkers and at run
time: a check is found by the type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from types import FunctionType, MethodType
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints
from uuid import UUID

from usersync.audit.event.entity import Entity, HasId, HasPrimaryKey, entity_of
from usersync.audit.event.objects import PAIRS, class_name, fields_of, has_identity, is_a, is_key
from usersync.audit.event.scalars import SCALARS
from usersync.config.mapping import did_you_mean
from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError

Check = Callable[[str, object], None]

#: What ``metadata`` is for.
_ELSEWHERE = "Everything that is no field of an event goes into metadata={…}."
_PAIR = 2


def _text(name: str, value: object) -> None:
    if not is_a(value, str):
        _wrong_type(name, "a text", value)


def _label(name: str, value: object) -> None:
    if not is_key(value):
        _wrong_type(name, "a text, a number or a UUID", value)


def _identity(name: str, value: object) -> None:
    if not (is_key(value) or has_identity(value)):
        _wrong_type(name, "an id, or an object with an id", value)


def _actor(name: str, value: object) -> None:
    if not is_a(value, FUNCTIONS):
        _identity(name, value)


def _user(name: str, value: object) -> None:
    if not (is_a(value, (str, UUID)) or has_identity(value)):
        _wrong_type(name, "a UUID, or an object with an id", value)


def _address(name: str, value: object) -> None:
    if not is_a(value, (str, IPv4Address, IPv6Address, IPv4Interface, IPv6Interface)):
        _wrong_type(name, "an IP address", value)


def _time(name: str, value: object) -> None:
    if not is_a(value, (date, str, int, float)) or is_a(value, bool):
        _wrong_type(name, "a datetime", value)


def _mapping(name: str, value: object) -> None:
    if type(value) is not dict and fields_of(value) is None:
        _wrong_type(name, "a mapping", value)


def _state(name: str, value: object) -> None:
    is_list = is_a(value, (list, tuple, set, frozenset)) and not hasattr(type(value), "_fields")
    if type(value) in SCALARS or is_list:
        _wrong_type(name, "a mapping or a model", value)


def _entity(_: str, value: object) -> None:
    entity_of(value)


def _pairs(name: str, value: object) -> None:
    hint = 'Pass {"stock": (10, 7)}: the name of each field, with its old and its new value.'
    if type(value) is not dict and not is_a(value, Mapping):
        _wrong_type(name, "a mapping", value, hint)
    for field, pair in value.items():  # type: ignore[attr-defined]
        if type(field) is not str and not is_key(field):
            _wrong_type(name, "names of fields", field, hint)
        if not (is_a(pair, PAIRS) and len(pair) == _PAIR):
            _wrong_type(f"{name}: {field!s:.80}", "a pair of old and new value", pair, hint)


def _one_of(allowed: tuple[str, ...], name: str, value: object) -> None:
    choice = ", ".join(map(repr, allowed))
    if not is_a(value, str):
        _wrong_type(name, f"one of {choice}", value)
    if value not in allowed:
        raise ArgumentValueError(f"{name}: expected one of {choice}, not {value!r:.80}")


def _wrong_type(name: str, expected: str, value: object, hint: str | None = None) -> None:
    raise ArgumentTypeError(f"{name}: expected {expected}, not {class_name(value)}", hint=hint)


#: What ``actor_id`` may be instead of an id: a function that finds the actor when an event is recorded.
FUNCTIONS = (FunctionType, MethodType, partial)

#: An id, or an object with an id.
Identity = Annotated[str | int | UUID | HasId | HasPrimaryKey | None, _identity]
Label = Annotated[str | int | UUID | None, _label]
Text = Annotated[str | None, _text]
ActorType = Literal["user", "service", "system", "anonymous"]
Outcome = Literal["succeeded", "failed", "denied"]
Severity = Literal["info", "low", "medium", "high", "critical"]
#: The old and the new value of each field that changed.
Changes = Mapping[str, tuple[object, object] | list[Any]]


class ContextFields(TypedDict, total=False):
    """What ``AuditLog.context()`` takes. Each field may also be passed with an event."""

    #: Who did it: an id, an object with an id, or a function that is called for each event.
    actor_id: Annotated[str | int | UUID | HasId | HasPrimaryKey | Callable[[], object] | None, _actor]
    #: The default is ``user`` if there is an actor, else ``system``.
    actor_type: ActorType | None
    #: The row of the users table. The default is the actor, if that is a user.
    user_id: Annotated[str | UUID | HasId | HasPrimaryKey | None, _user]
    request_id: Label
    #: With or without a port.
    ip: Annotated[str | IPv4Address | IPv6Address | None, _address]
    user_agent: Text
    #: The customer (organisation) that the event belongs to.
    tenant_id: Identity
    #: With impersonation: the user for whom ``actor_id`` acts.
    on_behalf_of: Identity
    #: A W3C trace context.
    traceparent: Text
    severity: Severity | None
    #: Anything else. The metadata of the context and of the event are merged.
    metadata: Annotated[Mapping[str, Any] | None, _mapping]


class ActionFields(ContextFields, total=False):
    """What ``AuditLog.action()`` takes."""

    #: What the event is about: ``("product", 42)``, or an object of an ORM (its table or class, and its key).
    entity: Annotated[Entity, _entity]
    #: ``{"stock": (10, 7)}``: the old and the new value of each field.
    changes: Annotated[Changes | None, _pairs]
    #: The default is ``succeeded``.
    outcome: Outcome | None
    #: The default is now. A time without a zone is taken as UTC.
    occurred_at: Annotated[date | str | float | None, _time]


class EventFields(ActionFields, total=False):
    """What ``AuditLog.record()``, ``record_in()`` and ``prepare()`` take."""

    #: The state before: a mapping or a model. The event stores the fields in which ``before`` and ``after``
    #: differ. None means that the entity did not exist.
    before: Annotated[object, _state]
    after: Annotated[object, _state]


#: The names of the fields of a context, except ``metadata``.
CONTEXT = frozenset(ContextFields.__optional_keys__ - {"metadata"})


def _check_for(hint: Any) -> Check:
    """The check for a type: the annotation's own, or that of a Literal."""
    if get_origin(hint) is Annotated:
        check: Check = hint.__metadata__[0]
        return check
    literal = next(each for each in get_args(hint) if get_origin(each) is Literal)
    return partial(_one_of, get_args(literal))


_CHECKS = {name: _check_for(hint) for name, hint in get_type_hints(EventFields, include_extras=True).items()}


#: The fields that may be any text, as most values are: these need no check.
_TEXTS = frozenset(
    name for name, check in _CHECKS.items() if check in {_text, _label, _identity, _actor, _user, _address}
)


def faults(given: Mapping[str, object], kind: type = EventFields) -> dict[str, SettingsError]:
    """The invalid arguments, each with its error: an ``ArgumentTypeError`` or an ``ArgumentValueError``.

    A value whose own code raises is not among them. Its event is recorded, with a placeholder.
    """
    names: frozenset[str] = kind.__optional_keys__  # type: ignore[attr-defined]
    found: dict[str, SettingsError] = {}
    for name, value in given.items():
        if name not in names:
            found[name] = ArgumentTypeError(f"an event has no field {name!r}", hint=_hint(name, names))
        elif value is not None and not (type(value) is str and name in _TEXTS):
            try:
                _CHECKS[name](name, value)
            except (ArgumentTypeError, ArgumentValueError) as error:
                found[name] = error
            except Exception:  # noqa: BLE001, S110 - see above
                pass
    return found


def event_fault(
    action: object, event: Mapping[str, object], kind: type = EventFields
) -> SettingsError | None:
    """The error of the first invalid argument; None if all are valid."""
    if not is_a(action, str):
        return ArgumentTypeError(f"action: expected a text, not {class_name(action)}")
    if not action:
        return ArgumentValueError("action: the text is empty")
    return next(iter(faults(event, kind).values()), None)


def _hint(name: str, known: frozenset[str]) -> str:
    return f"{did_you_mean(name, known)} {_ELSEWHERE}"
