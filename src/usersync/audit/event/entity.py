"""What an event is about: the type and the id of an object.

The objects of an ORM are recognized by their attributes, so no ORM is imported. Their keys are read without a
query: only loaded values and SQLAlchemy's own record of the key are used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from uuid import UUID

from usersync.audit.event.objects import PAIRS, class_name, has_identity, identity_of, is_a, is_key
from usersync.audit.event.values import Limits, to_json
from usersync.errors import ArgumentTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence


class HasId(Protocol):
    """An object with an ``id``: a model of an ORM or of pydantic, a dataclass."""

    @property
    def id(self) -> object: ...


class HasPrimaryKey(Protocol):
    """A model of Django or Tortoise."""

    @property
    def pk(self) -> object: ...


class HasMapper(Protocol):
    """A model of SQLAlchemy."""

    __mapper__: ClassVar[Any]


class HasTable(Protocol):
    """A model of SQLModel."""

    __tablename__: ClassVar[Any]


#: The type and the id of an object, or the object. At run time, ``"product/42"`` is accepted, too.
Entity = tuple[str, object] | HasId | HasPrimaryKey | HasMapper | HasTable | None

FORMS = 'Pass ("product", 42), or an object of an ORM.'
_PAIR = 2
_USUAL = {(str, int), (str, str), (str, UUID)}
_KEY = Limits(text=200, items=20, depth=2)


def entity_of(value: object) -> tuple[str, object]:
    """The type and the id. The id is None for an object that is not stored yet. Raises ``TypeError``."""
    if type(value) is tuple and tuple(map(type, value)) in _USUAL and value[0]:
        return value
    if is_a(value, PAIRS) and not hasattr(type(value), "_fields"):
        return _from_pair(value)  # type: ignore[arg-type]
    if is_a(value, str):
        kind, _, key = str.__str__(value).partition("/")
        if kind and key:
            return kind, key
        raise ArgumentTypeError(f"entity: the text {value!r:.80} has no type and id", hint=FORMS)
    found = _from_model(value)
    if found is None:
        raise ArgumentTypeError(f"entity: {class_name(value)} has no table and no id", hint=FORMS)
    return found


def stored_entity_of(value: object) -> tuple[str, object]:
    """``entity_of()``, with a key of several columns as events have it. Without a value for each, it is
    None.
    """
    kind, key = entity_of(value)
    return kind, joined(key) if isinstance(key, tuple | list) else key


def _from_pair(value: Sequence[object]) -> tuple[str, object]:
    if len(value) != _PAIR or not is_a(value[0], str) or not value[0]:
        raise ArgumentTypeError("entity: expected a type and an id", hint=FORMS)
    kind, key = value
    keys: Any = key if is_a(key, PAIRS) else [key]
    if not all(each is None or is_key(each) or has_identity(each) for each in keys):
        raise ArgumentTypeError(f"entity: {class_name(key)} is not an id", hint=FORMS)
    return str.__str__(kind), key


def _from_model(value: object) -> tuple[str, object] | None:
    kind: Any = type(value)
    if issubclass(kind, Mapping):
        return None
    if hasattr(kind, "__mapper__"):
        table = kind.__mapper__.local_table
        state = value._sa_instance_state  # type: ignore[attr-defined]  # noqa: SLF001 - what inspect() returns
        schema = getattr(table, "schema", None)
        return table_label(schema, str(table.description)), mapped_key(kind.__mapper__, state)
    meta = getattr(kind, "_meta", None)
    # Django and Tortoise; peewee.
    name = getattr(meta, "db_table", None) or getattr(meta, "table_name", None)
    if isinstance(name, str):
        key = value.pk if hasattr(kind, "pk") else value._pk  # type: ignore[attr-defined]  # noqa: SLF001 - peewee's
        parts = key if isinstance(key, tuple) else (key,)
        return table_label(getattr(meta, "schema", None), name.replace('"', "")), joined(parts)
    return (class_name(value), identity_of(value)) if has_identity(value) else None


def table_label(schema: str | None, name: str) -> str:
    """The table's name in events, with the schema unless that is ``public``."""
    return name if schema in {None, "public"} else f"{schema}.{name}"


def mapped_key(mapper: Any, state: Any) -> object:
    """The primary key of a SQLAlchemy object; if it has just changed, the new key."""
    keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    known = state.identity or (None,) * len(keys)
    return joined([state.dict.get(key, before) for key, before in zip(keys, known, strict=True)])


def joined(parts: Sequence[object]) -> object:
    """The key as row tracking writes it: a key of several columns as a JSON array. None without a key."""
    if len(parts) == 1:
        return parts[0]
    if any(part is None for part in parts):
        return None
    return json.dumps([to_json(part, None, _KEY) for part in parts], ensure_ascii=False)


def parse_entity(text: str) -> tuple[str, str | None]:
    """Read ``product/42`` as type and id. ``product`` alone means all products. Raises ValueError.

    A JSON array is read as it is: ``["a/b", "42"]`` is the id 42 of the type ``a/b``.
    """
    if exact := _from_array(text):
        return exact
    kind, slash, key = text.partition("/")
    if not kind or (slash and not key):
        raise ValueError(
            f"{text!r} is not an entity; expected a type, or a type and an id, for example product/42"
        )
    return kind, _as_tracked(key) if key else None


def entity_text(kind: str, key: str | None = None) -> str:
    """A type and an id in the form that ``parse_entity()`` reads as the same type and id."""
    plain = kind if key is None else f"{kind}/{key}"
    with suppress(ValueError):
        if parse_entity(plain) == (kind, key):
            return plain
    return json.dumps([kind] if key is None else [kind, key], ensure_ascii=False)


def _from_array(text: str) -> tuple[str, str | None] | None:
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not 1 <= len(found) <= _PAIR or not all(isinstance(each, str) for each in found):
        return None
    return found[0], found[1] if len(found) == _PAIR else None


def _as_tracked(key: str) -> str:
    """A key of several columns in row tracking's form, whatever its spaces."""
    if not key.startswith("["):
        return key
    try:
        return json.dumps(json.loads(key), ensure_ascii=False)
    except (ValueError, RecursionError):
        return key
