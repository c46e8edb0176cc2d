"""Reads the fields of an object, and runs as little of the application's code as possible.

Only loaded attributes of SQLAlchemy and Django models are read: reading any other attribute would query the
database. For the same reason, types are compared directly: ``isinstance`` reads ``__class__``, which loads a
lazy object.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import deque
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

#: The types of a pair: the old and the new value of a field, the type and the id of an entity.
PAIRS: tuple[type, ...] = (tuple, list)

_SEQUENCES: tuple[type, ...] = (list, tuple, deque, range, array, type({}.values()))
_SETS: tuple[type, ...] = (set, frozenset, type({}.keys()), type({}.items()))


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether the value's type is one of these, or a subclass."""
    return issubclass(type(value), kinds)


def class_name(value: object) -> str:
    """The name of the value's class, whatever its metaclass returns."""
    try:
        return str(type.__dict__["__name__"].__get__(type(value)))
    except Exception:  # noqa: BLE001 - a placeholder needs a name in any case
        return "object"


def is_secret_value(value: object) -> bool:
    """Whether the value is a wrapper that hides its content, such as pydantic's ``SecretStr``."""
    return hasattr(type(value), "get_secret_value")


def fields_of(value: object) -> Mapping[Any, Any] | None:  # noqa: PLR0911 - a list of cases
    """The fields of a mapping, dataclass, named tuple, or of a pydantic, attrs, SQLAlchemy or Django model.

    None for any other value. May raise any error of the object's own code.
    """
    kind = type(value)
    if issubclass(kind, Mapping):
        return value  # type: ignore[return-value]
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__mapper__") or hasattr(kind, "_meta"):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    if callable(getattr(kind, "model_dump", None)):
        return _dumped(value)
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=False))  # type: ignore[call-overload]
    return None


def _dumped(value: Any) -> Mapping[Any, Any] | None:
    # Field by field if possible, because model_dump() unwraps nested models, including the wrappers of their
    # secrets. It is only called for classes without model_fields.
    names = getattr(type(value), "model_fields", None)
    if isinstance(names, Mapping):
        extra = getattr(value, "model_extra", None) or {}
        return {**{name: getattr(value, name) for name in names}, **extra}
    dumped = value.model_dump()
    return dumped if isinstance(dumped, Mapping) else None


def items_of(value: object, limit: int) -> tuple[list[Any], int] | None:
    """The first items of a list, tuple, set, range or similar container, and their total number; else None.

    Iterators are not consumed, because they belong to the application, and querysets are not run.
    """
    if is_a(value, _SEQUENCES):
        return list(islice(value, limit)), len(value)  # type: ignore[call-overload,arg-type]
    if is_a(value, _SETS):
        found, size = list(islice(value, limit)), len(value)  # type: ignore[call-overload,arg-type]
        # Sets have no order; equal events should have equal texts.
        return (sorted(found, key=_sort_key) if size <= limit else found), size
    return None


def _sort_key(item: object) -> tuple[str, str]:
    return class_name(item), str(item) if type(item) in {str, int, float} else ""


def attributes_of(value: object) -> Mapping[str, Any] | None:
    """The attributes of an object without declared fields, except private ones."""
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return {name: item for name, item in held.items() if not name.startswith("_")} or None


#: The names of fields that identify a record.
_IDENTITIES = ("id", "pk", "uuid", "user_id", "sub")

_KEYS: tuple[type, ...] = (str, int, UUID, Decimal, Enum, date)


def is_key(value: object) -> bool:
    """Whether the value can be an id: a text, a number without fractions, a UUID, an enum or a date."""
    return is_a(value, _KEYS) and not is_a(value, bool)


def has_identity(value: object) -> bool:
    """Whether the value is a record with an id. A new record counts, although its id is None."""
    fields = fields_of(value)
    return fields is not None and any(name in fields or hasattr(type(value), name) for name in _IDENTITIES)


def identity_of(value: object) -> object:
    """The value that identifies a record: its loaded field ``id``, ``pk`` or similar. Else None."""
    fields = fields_of(value)
    if fields is not None:
        for name in _IDENTITIES:
            found = fields.get(name)
            if found is not None and fields_of(found) is None and items_of(found, 1) is None:
                return found
    return None


def enum_value(value: object) -> tuple[bool, Any]:
    """Whether the value is a member of an Enum, and the member's value."""
    return (True, value.value) if is_a(value, Enum) else (False, None)  # type: ignore[attr-defined]
