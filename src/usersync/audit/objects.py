"""What an object is made of, without running more of the application's code than must be.

Models of SQLAlchemy and Django are read from what is loaded in them: asking for an attribute that is not
would query the database.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any


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
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__mapper__") or hasattr(kind, "_meta"):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    if callable(getattr(kind, "model_dump", None)):
        return _dumped(value)
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=False))
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


def items_of(value: object) -> list[Any] | None:
    """The items of a list, tuple, set, range or the like; None for anything else.

    A generator or another iterator is not consumed: the application wants it.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, AbstractSet):
        return sorted(value, key=_sort_key)
    if isinstance(value, Iterator):
        return None
    # Sequences and collections that are not declared as such (deque, array, an ORM's list).
    if all(hasattr(type(value), name) for name in ("__len__", "__iter__", "__getitem__")):
        return list(value)  # type: ignore[call-overload,no-any-return]
    return None


def _sort_key(item: object) -> tuple[str, str]:
    # Sets have no order; events that say the same should look the same.
    return class_name(item), str(item) if isinstance(item, str | int | float) else ""


def enum_value(value: object) -> tuple[bool, Any]:
    """Whether it is a member of an Enum, and the member's value."""
    return (True, value.value) if isinstance(value, Enum) else (False, None)
