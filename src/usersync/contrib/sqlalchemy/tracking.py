"""Changes of mapped objects as events, stored in the transaction of the flush that writes them."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import ClauseElement, Column, event, inspect
from sqlalchemy.orm import Mapper, Session, object_session

from usersync.audit.event.entity import mapped_key, table_label
from usersync.audit.event.objects import class_name
from usersync.config.mapping import did_you_mean
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import InstanceState, UOWTransaction

    from usersync.audit import AuditLog
    from usersync.audit.event.event import Event
    from usersync.audit.event.fields import EventFields

#: A value that is not loaded, or that the database computes. Reading it would be a query, which an asyncio
#: session does not allow.
UNKNOWN = "[unknown]"

#: What goes to the database in one statement.
_BATCH_EVENTS, _BATCH_BYTES = 500, 1 << 20

#: The key in an object's info for the attributes that the database computes in the INSERT or UPDATE.
_KEY = "usersync"

Changes = dict[str, tuple[Any, Any]]


def track(model: type, audit: AuditLog, *, exclude: Collection[str] = (), required: bool = False) -> None:
    """Record what the sessions of this process insert, update and delete of ``model`` and its subclasses.

    The events are like those of row tracking (``products.updated``, with the columns that changed) and have
    the audit context that is open at the flush. They commit if and only if the flush's transaction does, and
    cost one statement, in a savepoint, for each flush. ``exclude`` are attributes to leave out. For
    attributes that look like secrets the event says that they changed, without the value. An event that
    cannot be stored is counted as dropped; with ``required`` it fails the flush (``DatabaseError``). A
    subclass may be tracked separately, with its own options.

    Changes without an object are not recorded: ``insert()``, ``update()`` and ``delete()`` statements, bulk
    methods, cascades and defaults in the database, other programs. ``usersync audit track`` records them.

    Raises ``SettingsError`` if ``model`` is not a mapped class, lacks an attribute, or is tracked already.
    """
    mapper: Any = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise SettingsError(f"track: expected a mapped class, got {model!r}")
    if model in _trackers:
        raise SettingsError(f"track: {model.__name__} is tracked already")
    known = mapper.column_attrs.keys()
    for name in exclude:
        if name not in known:
            raise SettingsError(
                f"track: {model.__name__} has no attribute {name!r} to exclude",
                hint=did_you_mean(name, known),
            )
    _trackers[model] = tracker = _Tracker(audit, frozenset(exclude), required=required)
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


class _Tracker:
    """Creates the events of one class."""

    def __init__(self, audit: AuditLog, exclude: frozenset[str], *, required: bool) -> None:
        self.audit = audit
        self.required = required
        self._exclude = exclude
        self._columns: WeakKeyDictionary[Mapper[Any], dict[str, str]] = WeakKeyDictionary()

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
        """Store which attributes the database computes: after the statement SQLAlchemy no longer knows."""
        state = inspect(target)
        changes = _differences(state, self._names(mapper))
        state.info[_KEY] = {name: pair for name, pair in changes.items() if pair[1] is UNKNOWN}

    def _note(self, what: str, mapper: Mapper[Any], connection: Connection, target: object) -> None:
        session = object_session(target)
        if session is None or _closest(type(target)) is not self:
            return
        table = mapper.local_table
        kind = table_label(getattr(table, "schema", None), str(table.description))
        given: EventFields = {"entity": (kind, None)}
        try:
            state = inspect(target)
            given["entity"] = (kind, mapped_key(mapper, state))
            given["changes"] = self._changes(what, state, self._names(mapper))
        except Exception as error:  # noqa: BLE001 - types and attributes of the application may raise anything
            given["metadata"] = {"unreadable": class_name(error)}
        if given.get("changes") or what != "updated" or "metadata" in given:
            made = self.audit.prepare(f"{kind}.{what}", **given)
            way = _Way(self.audit, connection, self.required)
            _pending.setdefault(session, []).append((way, made))

    def _changes(self, what: str, state: InstanceState[Any], names: dict[str, str]) -> Changes:
        computed: Changes = state.info.pop(_KEY, {})
        if what == "updated":
            return computed | _differences(state, names)
        loaded = {names[key]: value for key, value in state.dict.items() if key in names}
        there = {name: value for name, value in loaded.items() if value is not None}
        if what == "inserted":
            unknown = dict.fromkeys(computed, (None, UNKNOWN))
            return unknown | {name: (None, value) for name, value in there.items()}
        return {name: (value, None) for name, value in there.items()}

    def _names(self, mapper: Mapper[Any]) -> dict[str, str]:
        """The names of the columns in events, by attribute: those of the table, as with row tracking."""
        found = self._columns.get(mapper)
        if found is None:
            found = self._columns[mapper] = {
                each.key: each.key if self.audit.redacts(each.key) else str(each.columns[0].name)
                for each in mapper.column_attrs
                if each.key not in self._exclude and isinstance(each.columns[0], Column)
            }
        return found


_trackers: WeakKeyDictionary[type, _Tracker] = WeakKeyDictionary()
#: The events to store at the end of the flush.
_pending: WeakKeyDictionary[Session, list[tuple[_Way, Event]]] = WeakKeyDictionary()


def _closest(model: type) -> _Tracker | None:
    return next((_trackers[each] for each in model.__mro__ if each in _trackers), None)


def _differences(state: InstanceState[Any], names: dict[str, str]) -> Changes:
    changes: Changes = {}
    for key, name in names.items():
        history = state.attrs[key].history
        if history.has_changes():
            old = history.deleted[0] if history.deleted else UNKNOWN
            new = history.added[0] if history.added else None
            changes[name] = (old, UNKNOWN if _is_computed(new) else new)
    return changes


def _is_computed(value: object) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _begin(session: Session, _context: UOWTransaction, _instances: object) -> None:
    # The changes of a failed flush were never written.
    _pending.pop(session, None)


def _store(session: Session, _context: UOWTransaction) -> None:
    pending = _pending.pop(session, [])
    for way, group in groupby(pending, key=itemgetter(0)):
        for batch in _batches(made for _, made in group):
            way.audit.record_prepared_in(way.connection, batch, required=way.required)


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
