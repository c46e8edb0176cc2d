"""What an object is made of, without running more of the application's code than must be.

Models of SQLAlchemy and Django are read from what is loaded in them: asking for an attribute that is not
would query the database. Likewise everything is told by its type: ``isinstance`` asks ``__class__``, and a
lazy object would be loaded to answer that.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import deque
from collections.abc import Mapping
from enum import Enum
from itertools import islice
from typing import Any

_SEQUENCES: tuple[type, ...] = (list, tuple, deque, range, array, type({}.values()))
_SETS: tuple[type, ...] = (set, frozenset, type({}.keys()), type({}.items()))


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether the value's type is one of these, or a subclass."""
    return issubclass(type(value), kinds)


def class_name(value: object) -> str:
    """The name of the value's class, whatever its metaclass says."""
    try:
        return str(type.__dict__["__name__"].__get__(type(value)))
    except Exception:  # noqa: BLE001 - a name for a placeholder must come out of this
        return "object"


def is_secret_value(value: object) -> bool:
    """Whether it is a wrapper that hides its content, as pydantic's ``SecretStr``."""
    return hasattr(type(value), "get_secret_value")


def fields_of(value: object) -> Mapping[Any, Any] | None:  # noqa: PLR0911 - a list of cases
    """The fields of a mapping, dataclass, named tuple, or of a pydantic, attrs, SQLAlchemy or Django model.

    None for anything else. May raise whatever the object's own code raises.
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
    # Field by field where that is possible: model_dump() unwraps nested models, and their secrets' wrappers
    # with them only if told to, but a serializer of the application's may do anything.
    names = getattr(type(value), "model_fields", None)
    if isinstance(names, Mapping):
        extra = getattr(value, "model_extra", None) or {}
        return {**{name: getattr(value, name) for name in names}, **extra}
    dumped = value.model_dump()
    return dumped if isinstance(dumped, Mapping) else None


def items_of(value: object, limit: int) -> tuple[list[Any], int] | None:
    """The first items of a list, tuple, set, range or the like, and how many there are; else None.

    Only what holds its items is opened: an iterator is the application's, and a query would be run.
    """
    if is_a(value, _SEQUENCES):
        return list(islice(value, limit)), len(value)  # type: ignore[call-overload,arg-type]
    if is_a(value, _SETS):
        found, size = list(islice(value, limit)), len(value)  # type: ignore[call-overload,arg-type]
        # Sets have no order; events that say the same should look the same.
        return (sorted(found, key=_sort_key) if size <= limit else found), size
    return None


def _sort_key(item: object) -> tuple[str, str]:
    return class_name(item), str(item) if type(item) in {str, int, float} else ""


def attributes_of(value: object) -> Mapping[str, Any] | None:
    """What an object of a class without declared fields has in it, but for what it calls private."""
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return {name: item for name, item in held.items() if not name.startswith("_")} or None


def identity_of(value: object) -> object:
    """What names a record, by the field ``id``, ``pk`` or the like that is loaded in it; else None."""
    fields = fields_of(value)
    if fields is not None:
        for name in ("id", "pk", "uuid", "user_id", "sub"):
            found = fields.get(name)
            if found is not None and fields_of(found) is None and items_of(found, 1) is None:
                return found
    return None


def enum_value(value: object) -> tuple[bool, Any]:
    """Whether it is a member of an Enum, and the member's value."""
    return (True, value.value) if is_a(value, Enum) else (False, None)  # type: ignore[attr-defined]
