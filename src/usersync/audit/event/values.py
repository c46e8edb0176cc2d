"""Converts any Python value to JSON that PostgreSQL's jsonb accepts, and never raises.

A value without a JSON form is described in brackets, without calling its ``__repr__``: ``[object: Widget]``,
``[unreadable: Widget]`` (its own code raised), ``[cycle]``, ``[too deep]``, ``[cut: …]``.

A datetime without a zone is taken as UTC. Decimal and integers beyond 64 bits become text, because most JSON
parsers would round them. NaN and infinities become text. Sets become sorted lists. Generators are described
and not consumed. An exception is described by its class alone, because its message may hold secrets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from usersync.audit.event.objects import class_name, enum_value, fields_of, is_a, is_secret_value, items_of
from usersync.audit.event.scalars import SCALARS, clean, cut, scalar_writer
from usersync.config.redaction import REDACTED, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from usersync.config.redaction import Redactor

Json = str | int | float | bool | None | dict[str, "Json"] | list["Json"]

_MAX_KEY = 200
_PAIR = 2

# The hash covers the complete value, but at most this many bytes of it (about 40 ms).
_MAX_HASHED = 32 << 20
_LARGE = (str, bytes, bytearray, memoryview)

#: Field names of a record that say which key its ``value`` has: ``{"name": "Authorization", "value": "…"}``.
_NAMES_OF_KEYS = ("name", "key", "header")


@dataclass(frozen=True)
class Limits:
    """Maximum characters of a text, items of a container, levels, and total values."""

    text: int = 16_384
    items: int = 1_000
    depth: int = 16
    nodes: int = 20_000


def _make_encoder() -> Callable[[Any], bytes]:
    try:
        return import_module("orjson").dumps  # type: ignore[no-any-return]
    except ImportError:
        return plain_encode


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def plain_encode(value: Json) -> bytes:
    """What ``encode()`` is without orjson."""
    return _dump(value).encode()


#: JSON in UTF-8 without spaces. Uses orjson if installed, which takes a tenth of the time.
encode = _make_encoder()


def to_json(value: object, redactor: Redactor | None, limits: Limits) -> Json:
    """Convert ``value`` to JSON. Without a ``redactor``, secrets are kept."""
    writer = SCALARS.get(type(value))
    if writer is not None:
        try:
            return writer(value, limits.text)
        except Exception:  # noqa: BLE001 - see the module's docstring
            return f"[unreadable: {class_name(value)}]"
    return _Walk(redactor, limits).value(value, 0)


class _Walk:
    """One traversal of a value. Remembers the enclosing containers and the number of values so far."""

    __slots__ = ("_hashed", "_inside", "_limits", "_redactor", "_seen")

    def __init__(self, redactor: Redactor | None, limits: Limits) -> None:
        self._redactor = redactor
        self._limits = limits
        self._inside: set[int] = set()
        self._seen = 0
        self._hashed = 0

    def value(self, value: object, depth: int) -> Json:
        self._seen += 1
        try:
            writer = SCALARS.get(type(value))
            if writer is not None:
                return self._scalar(writer, value)
            if self._seen > self._limits.nodes:
                return "[cut: too many values]"
            return self._compound(value, depth)
        except Exception:  # noqa: BLE001 - see the module's docstring
            return f"[unreadable: {class_name(value)}]"

    def _scalar(self, writer: Callable[..., Json], value: Any) -> Json:
        if is_a(value, _LARGE) and len(value) > self._limits.text:
            self._hashed += len(value)
            if self._hashed > _MAX_HASHED:
                return f"[cut: {len(value)}]"
        return writer(value, self._limits.text)

    def _compound(self, value: object, depth: int) -> Json:
        if id(value) in self._inside:
            return "[cycle]"
        if depth >= self._limits.depth:
            return "[too deep]"
        self._inside.add(id(value))
        try:
            return self._opened(value, depth)
        finally:
            self._inside.discard(id(value))

    def _opened(self, value: object, depth: int) -> Json:  # noqa: PLR0911 - a list of cases
        if type(value) is dict:
            return self._mapping(value, depth + 1)
        if type(value) is list:
            return self._sequence(value[: self._limits.items], len(value), depth + 1)
        is_enum, member = enum_value(value)
        if is_enum:
            return self.value(member, depth + 1)
        if is_secret_value(value):
            return REDACTED
        writer = scalar_writer(value)
        if writer is not None:
            return self._scalar(writer, value)
        fields = fields_of(value)
        if fields is not None:
            return self._mapping(fields, depth + 1)
        found = items_of(value, self._limits.items)
        if found is not None:
            return self._sequence(*found, depth + 1)
        return f"[object: {class_name(value)}]"

    def _mapping(self, fields: Mapping[Any, Any], depth: int) -> Json:
        result: dict[str, Json] = {}
        for key, item in islice(fields.items(), self._limits.items):
            given = key if type(key) is str else key_text(key)
            # Checks the original name: cutting it or making it unique must not hide that it names a secret.
            secret = self._is_secret(given, item) or (
                given == "value" and self._has_secret_name(fields, item)
            )
            result[free_name(given, result)] = REDACTED if secret else self.value(item, depth)
        if len(fields) > self._limits.items:
            result["[cut]"] = f"[cut: {len(fields)} keys]"
        return result

    def _is_secret(self, key: str, item: object) -> bool:
        return self._redactor is not None and self._redactor.is_secret(key, kind_of(item))

    def _has_secret_name(self, fields: Mapping[Any, Any], item: object) -> bool:
        named = (fields.get(name) for name in _NAMES_OF_KEYS)
        return any(self._names_secret(name, item) for name in named)

    def _sequence(self, items: list[Any], size: int, depth: int) -> Json:
        if size == _PAIR and self._names_secret(*items):
            return [self.value(items[0], depth), REDACTED]
        result = [self.value(item, depth) for item in items]
        if size > len(items):
            result.append(f"[cut: {size} items]")
        return result

    def _names_secret(self, first: object, second: object) -> bool:
        """Whether a pair is a key and its secret, as in a list of headers: ``[("Authorization", "…")]``."""
        if not is_a(first, (*_LARGE, Enum)) or (is_a(first, _LARGE) and len(first) > _MAX_KEY):  # type: ignore[arg-type]
            return False
        return self._is_secret(key_text(first), second)


def key_text(key: Any) -> str:
    """A key as text, not cut, so that it can be checked for being a secret's key."""
    if is_a(key, str):
        return str.__str__(key)
    if is_a(key, (bytes, bytearray, memoryview)):
        return bytes(key).decode("utf-8", "replace")
    is_enum, member = enum_value(key)
    if is_enum:
        return key_text(member)
    written = to_json(key, None, _KEY)
    return written if isinstance(written, str) else encode(written).decode()


def free_name(name: str, taken: Mapping[str, object]) -> str:
    """The name in the form that jsonb stores. If two keys have the same form, the second gets a suffix."""
    name = cut(clean(name), _MAX_KEY)
    if name not in taken:
        return name
    return next(each for n in range(2, len(taken) + 3) if (each := f"{name} ({n})") not in taken)


_KEY = Limits(items=20, depth=2)
