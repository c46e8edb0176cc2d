"""Changes of mapped objects as events, stored in the transaction of the flush that writes them."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import ClauseElement, Column, event, inspect
from sqlalchemy.orm import Mapper, Session, object_session

from usersync.audit.event.entity import joined, table_label
from usersync.audit.event.event import label
from usersync.audit.event.objects import class_name
from usersync.config.mapping import did_you_mean
from usersync.config.redaction import REDACTED, Checked, kind_of
from usersync.contrib.sqlalchemy.column_values import Written, held, write
from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.orm import InstanceState, RelationshipProperty, UOWTransaction

    from usersync.audit import AuditLog
    from usersync.audit.event.event import Event

#: A value that is not loaded, or that the database computes. Reading it would be a query, which an asyncio
#: session does not allow.
UNKNOWN = "[unknown]"

#: What goes to the database in one statement.
_BATCH_EVENTS, _BATCH_BYTES = 500, 1 << 20

#: The key in an object's info for what is known of its columns before the INSERT or UPDATE.
_KEY = "usersync"

#: By the name of the attribute or the column.
Changes = dict[str, tuple[Any, Any]]

#: The arguments of ``AuditLog.prepare()``.
Given = dict[str, Any]


def track(
    model: type,
    audit: AuditLog,
    *,
    exclude: Collection[str] = (),
    reveal: Collection[str] = (),
    required: bool = False,
) -> None:
    """Record what the sessions of this process insert, update and delete of ``model`` and its subclasses, and
    of the tables of its many-to-many relationships.

    The events are like those of row tracking (``products.updated``, with the columns that changed) and have
    the audit context that is open at the flush. They commit if and only if the flush's transaction does, and
    cost one statement, in a savepoint, for each flush; another one if a column changed whose values
    PostgreSQL writes in its own way (numeric, interval, array, …). A value is recorded as the column holds
    it: encrypted if the application's type encrypts it, and ``[redacted]`` if the database does.

    ``exclude`` are attributes to leave out. For attributes that look like secrets the event says that they
    changed, without the value; ``reveal`` are attributes whose values are recorded anyway. An event that
    cannot be stored is counted as dropped; with ``required`` it fails the flush (``DatabaseError``). A
    subclass may be tracked separately, with its own options.

    Changes without an object are not recorded: ``insert()``, ``update()`` and ``delete()`` statements, bulk
    methods, cascades and defaults in the database, other programs. ``usersync audit track`` records them.

    Raises ``SettingsError`` if ``model`` is not a mapped class, lacks an attribute, or is tracked already.
    """
    mapper: Any = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise ArgumentTypeError(f"track: expected a mapped class, got {model!r}")
    if model in _trackers:
        raise SettingsError(f"track: {model.__name__} is tracked already")
    known = mapper.column_attrs.keys()
    for option, names in (("exclude", exclude), ("reveal", reveal)):
        for name in names:
            if name not in known:
                raise ArgumentValueError(
                    f"track: {model.__name__} has no attribute {name!r} to {option}",
                    hint=did_you_mean(name, known),
                )
    _trackers[model] = tracker = _Tracker(audit, frozenset(exclude), frozenset(reveal), required=required)
    for name, listener in tracker.listeners().items():
        event.listen(model, name, listener, propagate=True)
    for name, listener in (("before_flush", _begin), ("after_flush", _store)):
        if not event.contains(Session, name, listener):
            event.listen(Session, name, listener)


class _Way(NamedTuple):
    """How events are stored."""

    audit: AuditLog
    connection: Connection
    required: bool


class _Noted(NamedTuple):
    """An event that is not complete: a ``Written`` stands for each value that PostgreSQL still has to
    convert.
    """

    way: _Way
    given: Given


class _Tracker:
    """Creates the events of one class."""

    def __init__(
        self, audit: AuditLog, exclude: frozenset[str], reveal: frozenset[str], *, required: bool
    ) -> None:
        self.audit = audit
        self.required = required
        self._exclude = exclude
        self._reveal = reveal
        self._columns: WeakKeyDictionary[Mapper[Any], dict[str, Column[Any]]] = WeakKeyDictionary()

    def listeners(self) -> dict[str, Callable[..., None]]:
        """The listeners by the names of SQLAlchemy's events."""
        return {
            "before_insert": self._look,
            "before_update": self._look,
            "after_insert": partial(self._note, "inserted"),
            "after_update": partial(self._note, "updated"),
            "after_delete": partial(self._note, "deleted"),
        }

    def _look(self, mapper: Mapper[Any], connection: Connection, target: object) -> None:  # noqa: ARG002
        """Note what SQLAlchemy no longer knows after the statement: which attributes the database computes,
        and the values that ``onupdate`` replaces.
        """
        state = inspect(target)
        columns = self._tracked_columns(mapper)
        changes = _differences(state, columns)
        before = {key: state.dict.get(key, UNKNOWN) for key, each in columns.items() if _has_onupdate(each)}
        state.info[_KEY] = ({key: pair for key, pair in changes.items() if pair[1] is UNKNOWN}, before)

    def _note(self, what: str, mapper: Mapper[Any], connection: Connection, target: object) -> None:
        session = object_session(target)
        if session is None or _closest(type(target)) is not self:
            return
        kind = _entity_type(mapper.local_table)
        given: dict[str, Any] = {"entity": (kind, None)}
        try:
            state = inspect(target)
            columns = self._tracked_columns(mapper)
            given["entity"] = (kind, self._identity(mapper, state, connection.dialect))
            changes = self._changes(what, state, columns)
            given["changes"] = {
                str(columns[key].name): self._recorded(key, columns[key], pair, connection.dialect)
                for key, pair in changes.items()
            }
        except Exception as error:  # noqa: BLE001 - types and attributes of the application may raise anything
            given["metadata"] = {"unreadable": class_name(error)}
        if given.get("changes") or what != "updated" or "metadata" in given:
            self._add(session, connection, {"action": f"{kind}.{what}", **given})

    def _add(self, session: Session, connection: Connection, given: Given) -> None:
        _pending.setdefault(session, []).append(_Noted(_Way(self.audit, connection, self.required), given))

    def _changes(self, what: str, state: InstanceState[Any], columns: dict[str, Column[Any]]) -> Changes:
        computed, before = state.info.pop(_KEY, ({}, {}))
        if what == "updated":
            changes: Changes = computed | _differences(state, columns)
            # SQLAlchemy sends an UPDATE, and onupdate with it, only if something else changes.
            return changes | {
                key: (old, state.dict.get(key, UNKNOWN))
                for key, old in (before if changes else {}).items()
                if key not in changes
            }
        there = {key: state.dict[key] for key in columns if state.dict.get(key) is not None}
        if what == "inserted":
            return dict.fromkeys(computed, (None, UNKNOWN)) | {
                key: (None, each) for key, each in there.items()
            }
        return {key: (each, None) for key, each in there.items()}

    def _recorded(
        self, key: str, column: Column[Any], pair: tuple[Any, Any], dialect: Dialect
    ) -> tuple[Any, Any]:
        if key not in self._reveal and any(self._is_secret(key, column, value) for value in pair):
            return (None if pair[0] is None else REDACTED, None if pair[1] is None else REDACTED)
        old, new = (value if value is UNKNOWN else held(column, value, dialect) for value in pair)
        return old, new

    def _is_secret(self, key: str, column: Column[Any], value: object) -> bool:
        kind = kind_of(value)
        return any(self.audit.redacts(name, kind) for name in (key, str(column.name)))

    def _tracked_columns(self, mapper: Mapper[Any]) -> dict[str, Column[Any]]:
        """The columns by attribute."""
        found = self._columns.get(mapper)
        if found is None:
            found = self._columns[mapper] = {
                each.key: each.columns[0]
                for each in mapper.column_attrs
                if each.key not in self._exclude and isinstance(each.columns[0], Column)
            }
        return found

    def _identity(self, mapper: Mapper[Any], state: InstanceState[Any], dialect: Dialect) -> object:
        """The key as row tracking writes it; if it has just changed, the new key."""
        keys: list[tuple[str, Any]] = [
            (mapper.get_property_by_column(column).key, column) for column in mapper.primary_key
        ]
        known = state.identity or (None,) * len(keys)
        values = [
            self._key_part(key, column, state.dict.get(key, before), dialect)
            for (key, column), before in zip(keys, known, strict=True)
        ]
        return joined(values)

    def _key_part(self, key: str, column: Column[Any], value: Any, dialect: Dialect) -> Any:
        part = _key_value(column, value, dialect)
        if key not in self._reveal and self._is_secret(key, column, value):
            return hashlib.sha256(str(part).encode()).hexdigest()
        return part

    def note_links(self, session: Session, state: InstanceState[Any], connection: Connection) -> None:
        """Note the rows of many-to-many tables that the flush has written for this object."""
        is_deleted = state.obj() in session.deleted
        for relation in state.mapper.relationships:
            if relation.secondary is None or relation.viewonly:
                continue
            history = state.attrs[relation.key].history
            gone = [*history.deleted, *(history.unchanged if is_deleted else ())]
            for what, others in (("inserted", history.added), ("deleted", gone)):
                for other in filter(None, others):
                    row = _linking_row(relation, state, inspect(other))
                    self._note_link(session, connection, what, row)

    def _note_link(
        self, session: Session, connection: Connection, what: str, row: dict[Column[Any], Any]
    ) -> None:
        table: Any = next(iter(row)).table
        told = (what, *sorted((str(column), repr(value)) for column, value in row.items()))
        seen = _links.setdefault(session, set())
        if told in seen:  # The relationship's attribute of the other class has it, too.
            return
        seen.add(told)
        kind, dialect = _entity_type(table), connection.dialect
        values = {str(column.name): held(column, value, dialect) for column, value in row.items()}
        is_new = what == "inserted"
        changes = {name: (None, each) if is_new else (each, None) for name, each in values.items()}
        key = [_key_value(column, row.get(column), dialect) for column in table.primary_key]
        entity = (kind, joined(key) if key else None)
        self._add(session, connection, {"action": f"{kind}.{what}", "entity": entity, "changes": changes})


_trackers: WeakKeyDictionary[type, _Tracker] = WeakKeyDictionary()
#: The events to store at the end of the flush.
_pending: WeakKeyDictionary[Session, list[_Noted]] = WeakKeyDictionary()
#: The rows of many-to-many tables that were noted in this flush.
_links: WeakKeyDictionary[Session, set[Any]] = WeakKeyDictionary()


def _closest(model: type) -> _Tracker | None:
    return next((_trackers[each] for each in model.__mro__ if each in _trackers), None)


def _differences(state: InstanceState[Any], columns: Collection[str]) -> Changes:
    changes: Changes = {}
    for key in columns:
        history = state.attrs[key].history
        if history.has_changes():
            old = history.deleted[0] if history.deleted else UNKNOWN
            new = history.added[0] if history.added else None
            changes[key] = (old, UNKNOWN if _is_computed(new) else new)
    return changes


def _is_computed(value: object) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _has_onupdate(column: Column[Any]) -> bool:
    return column.onupdate is not None or column.server_onupdate is not None


def _entity_type(table: Any) -> str:
    return table_label(getattr(table, "schema", None), str(table.description))


def _linking_row(
    relation: RelationshipProperty[Any], state: InstanceState[Any], other: InstanceState[Any]
) -> dict[Column[Any], Any]:
    """The row of a many-to-many table that links two objects."""
    row: dict[Column[Any], Any] = {}
    for side, columns in (
        (state, relation.synchronize_pairs),
        (other, relation.secondary_synchronize_pairs or ()),
    ):
        linking: Any
        for source, linking in columns:
            row[linking] = side.dict.get(side.mapper.get_property_by_column(source).key)
    return row


def _key_value(column: Column[Any], value: Any, dialect: Dialect) -> Any:
    """A part of a key: a number, or the text that row tracking makes of it."""
    found = held(column, value, dialect)
    found = value if isinstance(found, Written) else found
    if isinstance(found, bytes):
        return found.hex()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return label(str(found).removesuffix("+00:00"))
    return found if type(found) is int else label(found)


def _begin(session: Session, _context: UOWTransaction, _instances: object) -> None:
    # The changes of a failed flush were never written.
    _pending.pop(session, None)
    _links.pop(session, None)


def _store(session: Session, _context: UOWTransaction) -> None:
    for target in (*session.new, *session.dirty, *session.deleted):
        tracker = _closest(type(target))
        state: InstanceState[Any] = inspect(target)
        if tracker is not None and any(each.secondary is not None for each in state.mapper.relationships):
            tracker.note_links(session, state, session.connection({"mapper": state.mapper}))
    _links.pop(session, None)
    for way, group in groupby(_pending.pop(session, []), key=itemgetter(0)):
        noted = _with_written_values(way.connection, [each.given for each in group])
        for batch in _batches(way.audit.prepare(**each) for each in noted):
            way.audit.record_prepared_in(way.connection, batch, required=way.required)


def _with_written_values(connection: Connection, given: list[Given]) -> list[Given]:
    """The events with the values that PostgreSQL writes. Their names were checked when they were noted."""
    pairs: list[Changes] = [each.get("changes", {}) for each in given]
    asked = [value for changes in pairs for pair in changes.values() for value in pair]
    answers = iter(write(connection, [each for each in asked if isinstance(each, Written)]))
    return [
        each
        | {
            "changes": {
                name: tuple(
                    None if value is None else Checked(next(answers) if isinstance(value, Written) else value)
                    for value in pair
                )
                for name, pair in changes.items()
            }
        }
        for each, changes in zip(given, pairs, strict=True)
    ]


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    batch: list[Event] = []
    size = 0
    for each in events:
        if batch and (len(batch) == _BATCH_EVENTS or size + len(each.payload) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each.payload)
    if batch:
        yield batch
