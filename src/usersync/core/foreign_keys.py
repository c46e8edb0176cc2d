"""The foreign keys that lead to a user, and what each does when a row is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.sql.render import render_catalog
from usersync.transports.steps import PIN_SEARCH_PATH, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.transports.steps import Row, Steps

#: ``confdeltype`` of pg_constraint, in words.
ON_DELETE = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of the table ``child``, which refers to the table ``parent``."""

    id: int
    name: str
    child: int
    parent: int
    child_name: str
    parent_name: str
    child_schema: str
    #: What it does to a row whose parent is deleted, see ``ON_DELETE``.
    action: str
    #: The same for a row whose parent gets other values.
    update_action: str
    estimated_rows: int
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    parent_types: tuple[str, ...]
    #: The equality operator of each pair of columns, with its schema.
    operators: tuple[str, ...]
    #: Its NOT NULL columns, and those of them that ON DELETE SET NULL would set to null.
    not_null: tuple[str, ...]
    refusing: tuple[str, ...]
    validated: bool
    before_action: str
    after_action: str
    #: Whether this role may read the child.
    readable: bool
    #: Whether an index finds the child's rows. Without one, each deleted row reads the whole table.
    indexed: bool

    @property
    def on_delete(self) -> str:
        """``cascade``, ``set null``."""
        return ON_DELETE[self.action]

    @property
    def blocks(self) -> bool:
        """Whether a deletion fails if a row refers to the deleted one."""
        return self.action in {"a", "r"} or (self.action == "n" and bool(self.refusing))

    @property
    def drop(self) -> str:
        """SQL that drops the foreign key."""
        return f"alter table {self.child_name} drop constraint {quote(self.name)};"

    def recreate(self, on_delete: str) -> str:
        """SQL that changes the action. Existing rows are checked without blocking writes."""
        columns, parents = (", ".join(map(quote, names)) for names in (self.columns, self.parent_columns))
        return (
            f"alter table {self.child_name} drop constraint {quote(self.name)}, "
            f"add constraint {quote(self.name)} foreign key ({columns}) references {self.parent_name} "
            f"({parents}){self.before_action} on delete {on_delete}{self.after_action} not valid;\n"
            f"alter table {self.child_name} validate constraint {quote(self.name)};"
        )

    def set_null(self) -> str:
        """SQL that changes the action to SET NULL, and drops NOT NULL from its columns."""
        relax = (
            f"alter table {self.child_name} alter column {quote(each)} drop not null;\n"
            for each in self.not_null
        )
        return "".join(relax) + self.recreate("set null")


@dataclass(frozen=True)
class ForeignKeys:
    """The foreign keys that lead to the auth server's table or the users table, also through other tables."""

    all: tuple[ForeignKey, ...] = ()
    #: The oids of both tables; None if the table does not exist.
    source: int | None = None
    users: int | None = None

    def between(self, child: int | None, parent: int | None) -> tuple[ForeignKey, ...]:
        """The keys by which one table refers to another."""
        return tuple(each for each in self.all if (each.child, each.parent) == (child, parent))

    def of_users(self, column: str) -> tuple[ForeignKey, ...]:
        """The keys by which the rows of the users table refer to the auth server's with this column."""
        return tuple(each for each in self.between(self.users, self.source) if column in each.columns)

    def to(self, parent: int | None) -> tuple[ForeignKey, ...]:
        """The keys that refer to one table."""
        return tuple(each for each in self.all if each.parent == parent)

    @property
    def users_cascade(self) -> bool:
        """Whether a row of the users table is deleted with the auth server's row."""
        return any(each.action == "c" for each in self.between(self.users, self.source))

    def blocking(self, parent: int | None) -> Iterator[tuple[ForeignKey, ...]]:
        """The paths of keys because of which deleting a row of this table can fail.

        All keys of a path cascade, except for the last one, which blocks.
        """
        waiting, seen = [(parent, tuple[ForeignKey, ...]())], {parent}
        while waiting:
            table, path = waiting.pop(0)
            for key in self.to(table):
                if key.blocks:
                    yield (*path, key)
                elif key.action == "c" and key.child not in seen:
                    seen.add(key.child)
                    waiting.append((key.child, (*path, key)))


def foreign_keys(settings: Settings) -> Steps[ForeignKeys]:
    """Read the foreign keys from the catalog. Table names include the schema."""
    rows = yield from query(PIN_SEARCH_PATH + render_catalog("foreign_keys", settings))
    tables = yield from query_row(PIN_SEARCH_PATH + render_catalog("tables", settings))
    return ForeignKeys(tuple(_of_row(row) for row in rows), tables["source"], tables["users"])


def _of_row(row: Row) -> ForeignKey:
    fields: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in row.items()}
    return ForeignKey(**fields)
