"""Inspect a database: its catalog, what usersync has recorded there, and objects in its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.core.exposed_objects import find_exposed_objects
from usersync.core.foreign_keys import foreign_keys
from usersync.core.privileges import missing_privileges
from usersync.errors import PrivilegeMissingError
from usersync.models import Pause
from usersync.schema.third_party_triggers import written_tables
from usersync.transports.steps import PIN_SEARCH_PATH, Steps, query, query_row

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from usersync.config.mapping import TableName
    from usersync.core.exposed_objects import ExposedObject
    from usersync.core.foreign_keys import ForeignKeys
    from usersync.core.privileges import MissingPrivilege
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Row


@dataclass(frozen=True)
class Inspection:
    """The state of a database: the catalog, what usersync has recorded there, and conflicting objects."""

    catalog: Mapping[str, Any]
    noted: Mapping[str, Any] | None
    conflicts: tuple[Mapping[str, Any], ...]
    foreign_keys: ForeignKeys
    missing: tuple[MissingPrivilege, ...]
    opened: tuple[ExposedObject, ...]

    @property
    def has_users_table(self) -> bool:
        return self.catalog["users_kind"] is not None


def inspect(bundle: Bundle) -> Steps[Inspection]:
    """Inspect the database. Writes nothing."""
    try:
        catalog = (yield from query_row(PIN_SEARCH_PATH + bundle.inspect))["state"]
        catalog |= (yield from query_row(PIN_SEARCH_PATH + bundle.inspect_audit_log))["state"]
    except PrivilegeMissingError as error:
        # The catalog needs only this privilege: without USAGE on a schema, its tables are hidden.
        raise PrivilegeMissingError(
            f"this role cannot inspect the database: {error}",
            hint="It needs USAGE on the schemas of both tables. On Supabase connect as postgres.",
            sqlstate=error.sqlstate,
        ) from None
    conflicts = yield from query(PIN_SEARCH_PATH + bundle.conflicts)
    noted = (
        (yield from query_row(PIN_SEARCH_PATH + bundle.installed))["noted"] if catalog["installed"] else None
    )
    catalog["paused"] = (yield from _paused()) if "usersync.pause" in catalog["installed_tables"] else None
    catalog["adopted"] = (yield from _adopted()) if "usersync.adopted" in catalog["installed_tables"] else ()
    catalog["has_subscriptions"] = (
        "usersync.subscriptions" in catalog["installed_tables"]
        and (yield from query_row("select exists (select from usersync.subscriptions) as found"))["found"]
    )
    catalog["gone_tables"] = yield from _gone(written_tables(bundle.settings, catalog))
    keys = yield from foreign_keys(bundle.settings)
    missing = yield from missing_privileges(bundle.settings)
    opened = yield from find_exposed_objects(bundle.settings)
    return Inspection(catalog, noted, tuple(conflicts), keys, missing, opened)


_ADOPTED = """
    select kind, name, definition, function_definition, moved_to from usersync.adopted order by name
"""


def _gone(tables: Collection[TableName]) -> Steps[frozenset[TableName]]:
    """The tables that exist in no schema. A function may have any of them in its search path."""
    if not tables:
        return frozenset()
    rows = yield from query(
        "select name from unnest(%(names)s::text[]) as name "
        "where not exists (select from pg_class where relname = name)",
        names=sorted({table.name for table in tables}),
    )
    names = {row["name"] for row in rows}
    return frozenset(table for table in tables if table.name in names)


def _adopted() -> Steps[tuple[Row, ...]]:
    return tuple((yield from query(_ADOPTED)))


def _paused() -> Steps[Pause | None]:
    rows = yield from query("select paused_at, paused_by as by from usersync.pause")
    return Pause(**rows[0]) if rows else None
