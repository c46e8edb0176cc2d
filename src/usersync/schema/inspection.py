"""Inspect a database, and find out whether usersync can be installed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.audit.inspection import audit_findings
from usersync.config.mapping import SOURCE_TYPES, looks_like_a_privilege, quote
from usersync.config.settings import COPIED_COLUMNS
from usersync.core.exposed_objects import find_exposed_objects
from usersync.core.foreign_keys import foreign_keys
from usersync.core.privileges import missing_privileges
from usersync.errors import PrivilegeMissingError
from usersync.models import Finding, Pause
from usersync.schema.adoption import adoption
from usersync.schema.effects import BEFORE, INSERT, set_by_triggers
from usersync.schema.kept_addresses import kept_addresses
from usersync.schema.keys import type_misfit
from usersync.schema.reference_findings import reference_findings
from usersync.schema.third_party_triggers import row_creators, trigger_findings, written_tables
from usersync.sql.row_rules import SKIPPED_BY
from usersync.transports.steps import PINNED, Steps, query, query_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from usersync.config.mapping import Column, TableName
    from usersync.config.settings import Settings
    from usersync.core.exposed_objects import ExposedObject
    from usersync.core.foreign_keys import ForeignKeys
    from usersync.core.privileges import MissingPrivilege
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Row

OLDEST_SERVER = 150000

#: The code of a finding about missing privileges.
LACKING = "D008"

#: The code of a finding about a database that accepts no writes.
READ_ONLY = "D036"

#: The subject of the finding about a pause.
PAUSED = "table usersync.pause"


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
        catalog = (yield from query_row(PINNED + bundle.inspect))["state"]
        catalog |= (yield from query_row(PINNED + bundle.inspect_audit_log))["state"]
    except PrivilegeMissingError as error:
        # The catalog needs only this privilege: without USAGE on a schema, its tables are hidden.
        raise PrivilegeMissingError(
            f"this role cannot inspect the database: {error}",
            hint="It needs USAGE on the schemas of both tables. On Supabase connect as postgres.",
            sqlstate=error.sqlstate,
        ) from None
    conflicts = yield from query(PINNED + bundle.conflicts)
    noted = (yield from query_row(PINNED + bundle.installed))["noted"] if catalog["installed"] else None
    catalog["paused"] = (yield from _paused()) if "usersync.pause" in catalog["installed_tables"] else None
    catalog["adopted"] = (yield from _adopted()) if "usersync.adopted" in catalog["installed_tables"] else ()
    catalog["gone_tables"] = yield from _gone(written_tables(bundle.settings, catalog))
    keys = yield from foreign_keys(bundle.settings)
    missing = yield from missing_privileges(bundle.settings)
    opened = yield from find_exposed_objects(bundle.settings)
    return Inspection(catalog, noted, tuple(conflicts), keys, missing, opened)


_ADOPTED = """
    select kind, name, definition, function_definition, moved_to from usersync.adopted order by name
"""


def _gone(tables: Collection[TableName]) -> Steps[frozenset[TableName]]:
    """The tables that exist in no schema. All schemas count, because a function may have a search path."""
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


def find(settings: Settings, inspection: Inspection, *, adopt: bool = False) -> tuple[Finding, ...]:
    """All findings: errors, which prevent the installation, and warnings.

    What ``adopt`` handles is no error.
    """
    if inspection.catalog["source_columns"] is None and settings.copies_source:
        catalog = {**inspection.catalog, "source_columns": sorted(COPIED_COLUMNS)}
        inspection = replace(inspection, catalog=catalog)
    if inspection.catalog["source_columns"] is None:
        return (_no_source(settings),)
    adopting = adoption(settings, inspection.catalog, adopt=adopt)
    return (
        *_platform(inspection),
        *_writes(inspection),
        *_pause(inspection),
        *_privileges(inspection),
        *_foreign_objects(inspection),
        *_source(settings, inspection),
        *_types(settings, inspection),
        *(_users_table if inspection.has_users_table else _no_users_table)(settings, inspection),
        *trigger_findings(
            settings, inspection.catalog, adopting.names, [each.name for each in adopting.replaced]
        ),
        *reference_findings(settings, inspection.foreign_keys, inspection.catalog),
        *audit_findings(settings, inspection.catalog, inspection.foreign_keys),
    )


def _no_source(settings: Settings) -> Finding:
    return Finding(
        "D001",
        f"table {settings.source_table}",
        f"there is no table {settings.source_table}",
        "-- Is this the project's database? If the auth server keeps its users elsewhere, set source_table.",
        level="error",
    )


def _platform(inspection: Inspection) -> Iterator[Finding]:
    version = inspection.catalog["server_version"]
    if version < OLDEST_SERVER:
        yield Finding(
            "D001",
            "server",
            f"PostgreSQL {version // 10000} is too old, usersync needs 15 or newer",
            "-- On Supabase: Project settings, Infrastructure, Upgrade project.",
            level="error",
        )


def _writes(inspection: Inspection) -> Iterator[Finding]:
    if inspection.catalog["read_only"] == "standby":
        yield Finding(
            READ_ONLY,
            "server",
            "this server is a standby, which accepts no writes",
            "-- Connect to the primary.",
            level="error",
        )
    elif inspection.catalog["read_only"]:
        yield Finding(
            READ_ONLY,
            f"role {inspection.catalog['role']}",
            "this database accepts no writes (default_transaction_read_only is on)",
            "-- Supabase does this when the disk is full: free some space, or enlarge it. Where it is set:\n"
            "usersync doctor --only D036",
            level="error",
        )


def _pause(inspection: Inspection) -> Iterator[Finding]:
    if pause := inspection.catalog["paused"]:
        yield Finding(
            "D004",
            PAUSED,
            f"usersync is paused {pause}: the triggers record which users are created, changed and deleted, "
            "and sync none of them",
            "usersync resume",
        )


def _privileges(inspection: Inspection) -> Iterator[Finding]:
    for missing in inspection.missing:
        if missing.part == "this role":
            yield Finding(
                LACKING,
                missing.subject,
                str(missing),
                f"-- On Supabase connect as postgres. Elsewhere:\n{missing.fix}",
                level="error",
            )
        elif missing.part == "owner":
            yield Finding(LACKING, missing.subject, str(missing), missing.fix)


def _foreign_objects(inspection: Inspection) -> Iterator[Finding]:
    for conflict in inspection.conflicts:
        kind, name = conflict["kind"], conflict["name"]
        if kind == "function":
            yield Finding(
                "D007",
                f"function {name}",
                f"the function {name} is not usersync's, and has the name of a function of usersync: a call "
                "whose arguments have no type may run it instead",
                f"-- Keep it under another name:\nalter function {name} rename to "
                f"{name.removeprefix('public.').partition('(')[0]}_before_usersync;",
                level="error",
            )
        elif kind == "schema":
            yield Finding(
                "D002",
                "schema usersync",
                "a schema usersync exists that usersync did not create",
                "-- Rename it first.",
                level="error",
            )


def _source(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    present = set(inspection.catalog["source_columns"])
    for column in settings.columns:
        for source in column.sources:
            if source.column not in present:
                yield Finding(
                    "D012",
                    f"column {settings.source_table}.{source.column}",
                    f"columns.{column.name}: {settings.source_table} has no column {source.column}",
                    "-- This auth server is older than the mapping; leave the column out of [columns].",
                    level="error",
                )
    for kind in settings.skip:
        for name in set(SKIPPED_BY[kind]) - present:
            yield Finding(
                "D012",
                f"table {settings.source_table}",
                f"skip: {settings.source_table} has no column {name}, so no user is {kind}",
                f'-- This auth server is older. Leave "{kind}" out of skip.',
                level="error",
            )
    if "deleted_at" not in present:
        yield Finding(
            "D012",
            f"column {settings.source_table}.deleted_at",
            f"{settings.source_table} has no column deleted_at: the auth server is too old",
            "-- Upgrade the auth server.",
            level="error",
        )


def _types(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    for column in settings.columns:
        if column.type in inspection.catalog["missing_types"]:
            yield Finding(
                "D012",
                f"type {column.type}",
                f"columns.{column.name}.type: this database has no type {column.type}",
                "-- Correct its name, or create it. Write a type outside of pg_catalog with its schema.",
                level="error",
            )


def _users_table(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    catalog, table = inspection.catalog, settings.users_table
    if catalog["users_kind"] not in {"r", "p"}:
        yield Finding(
            "D012",
            f"table {table}",
            f"{table} is not a table",
            "-- Set users_table to the table behind it.",
            level="error",
        )
        return
    yield from _key(settings, inspection)
    for column in settings.columns:
        yield from _column(column, settings, inspection)
    yield from kept_addresses(settings, catalog)
    yield from _unfilled(settings, inspection)
    yield from _rules(settings, inspection)
    yield from _trigger_creators(settings, inspection)


def _unfilled(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    """Findings for NOT NULL columns that neither usersync nor the table fills. A trigger may fill them."""
    if not settings.creates_rows:
        return  # The application creates the rows, and fills them.
    catalog, table = inspection.catalog, settings.users_table
    filled = {settings.key, *(column.name for column in (*settings.users_where, *settings.columns))}
    filled |= set_by_triggers(catalog["users_triggers"], INSERT)
    before = [
        each["name"]
        for each in catalog["users_triggers"]
        if each["type"] & BEFORE and each["type"] & INSERT and each["enabled"] != "D"
    ]
    creators = row_creators(settings, catalog)
    for name, about in catalog["users_columns"].items():
        if not about["required"] or name in filled:
            continue
        what = f"{table}.{name} is NOT NULL, has no default and is not mapped"
        alter = f"alter table {table.quoted} alter column {quote(name)}"
        if creators:
            yield Finding(
                "D012",
                f"column {table}.{name}",
                f"{what}: a new user gets a row only from the trigger {creators[0].name}, and usersync "
                "cannot create a missing row",
                f"-- If usersync is to create missing rows too, give it a default ({alter} set default …;), "
                "or map it in [columns].",
                "warning",
            )
            continue
        if before:
            yield Finding(
                "D012",
                f"column {table}.{name}",
                f"{what}: no user can get a row unless a trigger fills it ({', '.join(before)}). The text "
                "of the trigger does not show that",
                f"-- To test it: usersync doctor --canary. If no trigger fills it: {alter} set default …;",
                "warning",
            )
            continue
        advice = (
            f"-- Give it a default ({alter} set default …;), or map it in [columns], for instance {name} = "
            f'{{ from = "{_some_metadata(name)}", default = … }}. If the application creates the rows: '
            "creates_rows = false."
        )
        # A column of the key cannot be null.
        relax = "" if name in catalog["users_primary_key"] else f" Or let it be null:\n{alter} drop not null;"
        yield Finding(
            "D012",
            f"column {table}.{name}",
            f"{what}: no user can get a row",
            f"{advice}{relax}",
            # An installation that exists is not stopped: an upgrade may be needed for other reasons.
            "error" if inspection.noted is None else "problem",
        )


def _rules(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    """Findings for rules of the table, which rewrite statements before any trigger fires."""
    table = settings.users_table
    for rule in inspection.catalog["users_rules"]:
        subject = f"rule {rule['name']} on {table}"
        if rule["event"] != "DELETE":
            yield Finding(
                "D012",
                subject,
                f"{table} has a rule for {rule['event']} ({rule['name']}). usersync does not support that: "
                "PostgreSQL allows no INSERT with ON CONFLICT on such a table, so no missing row could be "
                "created and no change copied",
                f"-- Write a trigger that does the same, then drop the rule: drop rule {quote(rule['name'])} "
                f"on {table.quoted}",
                level="error",
            )
        elif settings.deletes_rows:
            yield Finding(
                "D012",
                subject,
                f"the rule {rule['name']} on {table} rewrites each DELETE, also those of usersync (a setting "
                'is "delete")',
                f"-- If the row stays, usersync records a sync failure (US002). "
                f"{' '.join(rule['definition'].split())}",
                "warning",
            )


def _some_metadata(name: str) -> str:
    return "app_metadata…" if looks_like_a_privilege(name) else "user_metadata…"


def _trigger_creators(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    roles, table = inspection.catalog["users_trigger_makers"], settings.users_table
    if roles:
        yield Finding(
            "D012",
            f"table {table}",
            f"{', '.join(roles)} may create triggers on {table}, which would run as the role that installs "
            "usersync; by raw SQL only, not through the Data API",
            f"revoke trigger, references, truncate on {table.quoted} from {', '.join(roles)};",
            "warning",
        )


def _no_users_table(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    """Findings for a misspelt table name, which would create a second users table."""
    table, others = settings.users_table, inspection.catalog["other_tables"]
    near = difflib.get_close_matches(f"{table.schema}.{table.name}", others, n=1, cutoff=0.7)
    if near and not inspection.catalog["has_users_schema"]:
        yield Finding(
            "D012",
            f"schema {table.schema}",
            f"users_table: schema {table.schema} does not exist. Did you mean {near[0]}?",
            f"-- Correct the name. If it is correct: create schema {quote(table.schema)};",
            level="error",
        )
    elif near:
        yield Finding(
            "D012",
            f"table {table}",
            f"table {table} does not exist and would be created, although {near[0]} exists",
            f"-- If {near[0]} is your table of users, set users_table to it.",
            "warning",
        )


def _key(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    table, key = settings.users_table, settings.key
    about, subject = inspection.catalog["users_columns"].get(key), f"column {table}.{key}"
    if about is None:
        yield Finding(
            "D012",
            subject,
            f"{table} has no column {key}",
            "-- Set key to the column that holds the auth user's id.",
            level="error",
        )
    elif (misfit := type_misfit(settings, about["type"])) is not None:
        yield misfit
    elif not inspection.catalog["key_is_unique"] and key in inspection.catalog["users_primary_key"]:
        columns = ", ".join(inspection.catalog["users_primary_key"])
        yield Finding(
            "D012",
            subject,
            f"{table}.{key} is only one of the columns of the primary key ({columns}): a user may have "
            "several rows there, and usersync keeps one for each",
            "-- If it is a table of memberships, set users_table to the table of users. If a user has only "
            f"one row:\nalter table {table.quoted} add unique ({quote(key)});",
            level="error",
        )
    elif not inspection.catalog["key_is_unique"]:
        yield Finding(
            "D012",
            subject,
            f"{table}.{key} has no primary key or unique constraint",
            "-- A unique key forbids a second row of a user. If a user may have several rows there (teams), "
            "set users_table to the table with one row for each user. If each user has one row at most:\n"
            f"alter table {table.quoted} add unique ({quote(key)});",
            level="error",
        )


def _column(column: Column, settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    table = settings.users_table
    about, subject = inspection.catalog["users_columns"].get(column.name), f"column {table}.{column.name}"
    if about is None:
        yield Finding(
            "D012",
            subject,
            f"{table} has no column {column.name}, which is mapped",
            _fix_of_missing(column, settings, inspection),
            level="error",
        )
    elif about["generated"]:
        yield Finding(
            "D012",
            subject,
            f"{table}.{column.name} is generated and cannot be mapped",
            "-- Leave it out of [columns].",
            level="error",
        )
    elif _needs_cast(column, about):
        yield Finding(
            "D012",
            subject,
            f"columns.{column.name}: {table}.{column.name} is of type {about['type']}, and the source "
            f"delivers {column.sql_type}",
            f'-- Set the type: type = "{about["type"]}". Values that do not fit are reported.',
            level="error",
        )
    elif (
        about["refuses_null"]
        and column.default is None
        and _may_be_absent(column)
        and not (column.takes_table_default and about["default"])
        and settings.creates_rows
        and not ("without_email" in settings.skip and column.sources[0].column == "email")
    ):
        yield Finding(
            "D012",
            subject,
            f"{table}.{column.name} is NOT NULL, and {' and '.join(map(str, column.sources))} can be "
            f"absent: {_who_lacks(column)} cannot get a row",
            f'-- Give it a default: {column.name} = {{ from = "{column.sources[0]}", default = … }}. '
            f"Until then their sign-ups succeed, and usersync failures lists them. {_skip_hint(column)}"
            "Or drop NOT NULL:\n"
            f"alter table {table.quoted} alter column {quote(column.name)} drop not null;",
            "warning",
        )


def _skip_hint(column: Column) -> str:
    return 'Or give them no row: skip = ["without_email"]. ' if column.sources[0].column == "email" else ""


def _fix_of_missing(column: Column, settings: Settings, inspection: Inspection) -> str:
    """The fix for a missing column: add it, or change the mapping if the column was renamed or dropped."""
    catalog, table = inspection.catalog, settings.users_table
    mapped = {settings.key, *(each.name for each in settings.columns)}
    add = f"alter table {table.quoted} add column {quote(column.name)} {column.sql_type};"
    if any(name not in mapped and _holds(column, about) for name, about in catalog["users_columns"].items()):
        return (
            "-- If it was renamed, write its new name into [columns] of usersync.toml. If it was dropped, "
            f"remove it there. If it will be created: {add}"
        )
    return (
        "-- Either write a [columns] section into usersync.toml that names only columns it has"
        f"{_proposal(settings, inspection)}, or add it:\n{add}"
    )


def _holds(column: Column, about: Mapping[str, Any]) -> bool:
    """Whether a column has the type of the mapped column, so that it may be the same, renamed."""
    if column.sql_type == "text":
        return bool(about["string"])
    return bool(about["type"] == _TYPE_NAMES.get(column.sql_type, column.sql_type))


_NEVER_ABSENT = {"id", "is_anonymous", "is_sso_user", "created_at"}


def _may_be_absent(column: Column) -> bool:
    return not column.is_computed and not any(source.column in _NEVER_ABSENT for source in column.sources)


def _who_lacks(column: Column) -> str:
    if column.sources[0].column == "email":
        return "anonymous users, and those who sign up by phone,"
    if column.sources[0].column == "phone":
        return "users who sign up without a phone"
    return "users without it"


_TYPE_NAMES = {"timestamptz": "timestamp with time zone"}


def _needs_cast(column: Column, about: Mapping[str, Any]) -> bool:
    if column.expression is not None and column.type is None:
        return False  # computed_findings checks it in the database.
    if column.sql_type == "text":
        return not about["string"]
    wanted = _TYPE_NAMES.get(column.sql_type, column.sql_type)
    return column.type is None and wanted != about["type"] and column.sql_type in SOURCE_TYPES.values()


def _proposal(settings: Settings, inspection: Inspection) -> str:
    there = [each.name for each in settings.columns if each.name in inspection.catalog["users_columns"]]
    return f" (of the mapped ones: {', '.join(there)})" if there else ""
