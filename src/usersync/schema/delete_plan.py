"""What would be deleted or changed if a user were deleted from the auth server's table. Writes nothing.

Foreign keys are followed row by row, not table by table, because a row that is deleted itself does not block.
All queries use one snapshot, so that ``ctid`` identifies a row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from usersync.config.key_type import UUID_KEY
from usersync.config.mapping import quote
from usersync.core.audit_log import has_log
from usersync.core.foreign_keys import foreign_keys
from usersync.errors import BusyError, DatabaseError, UserNotFoundError
from usersync.transports.steps import Row, Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.config.mapping import TableName
    from usersync.config.settings import OnDelete, Settings
    from usersync.core.foreign_keys import ForeignKey

Effect = Literal["blocks", "deleted", "set null", "set default", "nothing", "unknown"]

#: The deletion that causes it: of the auth user, or of the user's row (``on_delete``).
Origin = Literal["auth", "users"]

#: What happens to the row of the users table.
RowFate = Literal["none", "emptied", "marked", "kept", "deleted", "cascaded"]
_FATES: dict[str, RowFate] = {
    "anonymize": "emptied", "soft": "marked", "keep": "kept", "delete": "deleted"
}  # fmt: skip

#: What happens to the row, in words.
ROW_FATES: dict[RowFate, str] = {
    "none": "has no row of this user",
    "emptied": "the row stays; its personal columns are emptied ({setting} = anonymize)",
    "marked": "the row stays as it is, with the time of deletion ({setting} = soft)",
    "kept": "the row stays as it is ({setting} = keep)",
    "deleted": "the row is deleted ({setting} = delete)",
    "cascaded": "the row is deleted by its foreign key to the auth server's table, before on_delete applies",
}

#: The maximum rows of each foreign key that are followed and counted.
MOST_ROWS = 10_000
_TIMEOUT_S = 5


@dataclass(frozen=True)
class Consequence:
    """What one foreign key does to the rows that refer to deleted rows."""

    origin: Origin
    table: str
    constraint: str
    columns: tuple[str, ...]
    #: The referenced table.
    refers_to: str
    on_delete: str
    effect: Effect
    #: The number of rows that are affected, or that block the deletion; None if not counted (see ``reason``).
    rows: int | None
    #: Whether there are more rows than ``MOST_ROWS``.
    more: bool
    #: Whether an index finds the rows. Without an index, each deleted row reads the whole table.
    indexed: bool
    estimated_rows: int
    reason: str | None = None


@dataclass(frozen=True)
class DeletionPlan:
    """The effects of deleting one user."""

    user_id: UUID
    in_auth: bool
    soft_deleted: bool
    has_row: bool
    on_delete: str
    on_soft_delete: str
    row: RowFate
    #: What a soft deletion does to the row.
    soft_row: RowFate
    consequences: tuple[Consequence, ...]
    #: Events that are linked to the user, at most ``MOST_ROWS + 1``; None if not known.
    linked_events: int | None
    #: Storage objects that name the user as their owner. They stay.
    storage_objects: int | None
    #: Whether the deletion of the row unlinks the user's events.
    unlinks_events: bool

    @property
    def blocked(self) -> bool:
        """Whether a foreign key blocks the deletion of the auth user, or of the row (``on_delete``)."""
        return any(each.effect == "blocks" for each in self.consequences)


def plan_deletion(settings: Settings, user_id: UUID) -> Steps[DeletionPlan]:
    """Follow all references to a user. The connection must not be in a transaction.

    Raises ``UserNotFoundError`` if neither table has the user.
    """
    return (yield from in_transaction(_read(settings, user_id)))


def _read(settings: Settings, user_id: UUID) -> Steps[DeletionPlan]:
    yield from query("set transaction isolation level repeatable read, read only")
    # With row_security off, rows that a policy would hide cause an error instead of a wrong count.
    yield from query(
        f"set local search_path = pg_catalog; set local row_security = off; set local lock_timeout = '2s'; "
        f"set local statement_timeout = '{_TIMEOUT_S}s'"
    )
    users, source = settings.users_table, settings.source_table
    is_row = settings.key_type.matches_bound(quote(settings.key))
    found = yield from query_row(
        f'select (select true from {_named(source)} where "id" = %(id)s) is not null as in_auth, '
        f'exists (select from {_named(source)} where "id" = %(id)s and "deleted_at" is not null) '
        "as soft_deleted, "
        f"exists (select from {_named(users)} where {is_row}) as has_row",
        id=user_id,
    )
    if not found["in_auth"] and not found["has_row"]:
        raise UserNotFoundError(
            f"no user {user_id} in {source} or in {users}",
            hint="Check the id, and that this is the right project.",
        )
    keys = yield from foreign_keys(settings)
    walk = _Walk(keys.all)
    yield from walk.follow("auth", source, UUID_KEY.matches_bound(quote("id")), user_id)
    cascaded = bool(walk.deleted.get(keys.users or 0))
    if settings.on_delete == "delete" and not cascaded:
        yield from walk.follow("users", users, is_row, user_id)
    row: RowFate = "cascaded" if cascaded else _fate(settings.on_delete, has_row=found["has_row"])
    unlinks = row in {"cascaded", "deleted"}
    return DeletionPlan(
        user_id,
        **found,
        on_delete=settings.on_delete,
        on_soft_delete=settings.on_soft_delete,
        row=row,
        soft_row=_fate(settings.on_soft_delete, has_row=found["has_row"]),
        consequences=tuple(walk.consequences()),
        linked_events=(yield from _linked_events(settings, user_id)),
        storage_objects=(yield from _storage_objects(user_id)),
        unlinks_events=unlinks and settings.audit.is_own,
    )


def _named(table: TableName) -> str:
    return _escaped(table.quoted)


def _escaped(text: str) -> str:
    """The text with percent signs doubled, for a statement with bound values."""
    return text.replace("%", "%%")


def _fate(policy: OnDelete, *, has_row: bool) -> RowFate:
    return _FATES[policy] if has_row else "none"


@dataclass
class _Found:
    """The rows that refer by one foreign key to deleted rows, by their places."""

    key: ForeignKey
    origin: Origin
    places: set[str] = field(default_factory=set)
    more: bool = False
    reason: str | None = None


class _Walk:
    """Follows foreign keys from row to row, each row once, even if the keys form a cycle."""

    def __init__(self, keys: tuple[ForeignKey, ...]) -> None:
        self._keys = keys
        self._found: dict[int, _Found] = {}
        #: The places of the rows that are deleted, by table.
        self.deleted: dict[int, set[str]] = {}

    def follow(self, origin: Origin, table: TableName, is_of_user: str, user_id: UUID) -> Steps[None]:
        """Follow the references to this user's row of ``table``."""
        oid = (yield from query_row("select to_regclass(%(name)s)::oid::bigint as oid", name=table.quoted))[
            "oid"
        ]
        rows = yield from query(
            f"select {self._wanted(oid)} from {_named(table)} as found where {is_of_user}",
            id=user_id,
        )
        waiting = [(oid, self._new(oid, rows))]
        while waiting:
            parent, gone = waiting.pop()
            for key in self._keys:
                if key.parent == parent and gone:
                    more = yield from self._follow_key(origin, key, gone)
                    if key.action == "c" and more:
                        waiting.append((key.child, more))

    def _wanted(self, table: int) -> str:
        """SQL for two columns: ``place`` identifies a row, ``given`` holds its referenced values as text."""
        names = sorted({name for key in self._keys if key.parent == table for name in key.parent_columns})
        pairs = [f"'{name.replace(chr(39), chr(39) * 2)}', found.{quote(name)}::text" for name in names]
        values = f"jsonb_build_object({', '.join(pairs)})" if pairs else "'{}'::jsonb"
        return f"found.tableoid::text || found.ctid::text as place, {values} as given".replace("%", "%%")

    def _new(self, table: int, rows: list[Row]) -> list[Row]:
        known = self.deleted.setdefault(table, set())
        new = [row for row in rows if row["place"] not in known]
        known.update(row["place"] for row in new)
        return new

    def _follow_key(self, origin: Origin, key: ForeignKey, gone: list[Row]) -> Steps[list[Row]]:
        found = self._found.setdefault(key.id, _Found(key, origin))
        if not key.readable:
            found.reason = "this role may not read it"
        if found.reason:
            return []
        yield from query("savepoint following")
        try:
            rows = yield from query(self._referring(key), given=json.dumps([row["given"] for row in gone]))
        except DatabaseError as error:
            yield from query("rollback to savepoint following")
            found.reason = _reason(error)
            return []
        yield from query("release savepoint following")
        found.more = found.more or len(rows) > MOST_ROWS
        rows = rows[:MOST_ROWS]
        found.places.update(row["place"] for row in rows)
        if key.action != "c" or len(self.deleted.get(key.child, ())) > MOST_ROWS:
            return []
        return self._new(key.child, rows)

    def _referring(self, key: ForeignKey) -> str:
        parts = [
            f"given.{quote(parent)} {operator} found.{quote(child)}"
            for parent, operator, child in zip(key.parent_columns, key.operators, key.columns, strict=True)
        ]
        types = ", ".join(
            f"{quote(name)} {kind}" for name, kind in zip(key.parent_columns, key.parent_types, strict=True)
        )
        text = (
            (
                f"from (select distinct * from jsonb_to_recordset(%(given)s) as each ({types})) as given "
                f"join {key.child_name} as found on {' and '.join(parts)} limit {MOST_ROWS + 1}"
            )
            .replace("%", "%%")
            .replace("%%(given)s", "%(given)s")
        )
        return f"select {self._wanted(key.child)} {text}"

    def consequences(self) -> Iterator[Consequence]:
        """One consequence for each foreign key that was followed. Call it after all ``follow()``."""
        for found in self._found.values():
            key, rows = found.key, len(found.places)
            action = key.action
            if action == "a":
                # NO ACTION is checked at the end of the statement, when the other rows are deleted already.
                rows = len(found.places - self.deleted.get(key.child, set()))
            yield Consequence(
                found.origin,
                key.child_name,
                key.name,
                key.columns,
                key.parent_name,
                key.on_delete,
                _effect(key, rows, found.reason),
                None if found.reason else rows,
                found.more,
                key.indexed,
                key.estimated_rows,
                found.reason or _refusal(key, rows),
            )


def _effect(key: ForeignKey, rows: int, reason: str | None) -> Effect:
    action = key.action
    if reason:
        return "unknown"
    if not rows:
        return "nothing"
    if action in {"a", "r"} or _refusal(key, rows):
        return "blocks"
    return "deleted" if action == "c" else "set null" if action == "n" else "set default"


def _refusal(key: ForeignKey, rows: int) -> str | None:
    if key.action == "n" and rows and key.refusing:
        return f"{', '.join(key.refusing)} is NOT NULL"
    return None


def _reason(error: DatabaseError) -> str:
    # SQLSTATE 57014 after less time: an administrator cancelled the statement.
    if error.sqlstate == "57014" and error.seconds >= _TIMEOUT_S:
        return f"not counted within {_TIMEOUT_S} s"
    if isinstance(error, BusyError):
        return "locked by another session"
    return str(error)


def _guarded(sql: str, **params: Any) -> Steps[int | None]:
    """A count; None if the query failed."""
    yield from query("savepoint counting")
    try:
        row = yield from query_row(sql, **params)
    except DatabaseError:
        yield from query("rollback to savepoint counting")
        return None
    yield from query("release savepoint counting")
    return int(row["rows"])


def _linked_events(settings: Settings, user_id: UUID) -> Steps[int | None]:
    column = settings.audit.effective().get("user_id")
    if column is None or not (yield from has_log(settings)):
        return None
    if settings.audit.is_own:
        place = settings.key_type.matches_bound(quote(column.name))
    else:
        place = f"{_escaped(quote(column.name))} = %(id)s" + (f"::{column.type}" if column.type else "")
    return (
        yield from _guarded(
            f"select count(*) as rows from (select from {_named(settings.audit_table)} where {place} "
            f"limit {MOST_ROWS + 1}) as linked",
            id=str(user_id),
        )
    )


def _storage_objects(user_id: UUID) -> Steps[int | None]:
    found = yield from query_row(
        "select exists (select from pg_attribute where attrelid = to_regclass('storage.objects') "
        "and attname = 'owner_id' and not attisdropped) as found"
    )
    if not found["found"]:
        return None
    return (
        yield from _guarded(
            f"select count(*) as rows from (select from storage.objects where owner_id = %(id)s "
            f"limit {MOST_ROWS + 1}) as owned",
            id=str(user_id),
        )
    )
