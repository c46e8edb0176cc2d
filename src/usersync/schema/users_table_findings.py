"""Findings about the users table: its key, mapped columns, columns that nothing fills, rules, triggers."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import SOURCE_TYPES, TIMESTAMPTZ, looks_like_a_privilege, quote
from usersync.models import Finding
from usersync.schema.effects import BEFORE, INSERT, set_by_triggers
from usersync.schema.kept_addresses import kept_addresses
from usersync.schema.keys import type_misfit
from usersync.schema.third_party_triggers import row_creators

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.mapping import Column
    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection


def users_table_findings(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
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
        relax = "" if name in catalog["users_primary_key"] else f" Or drop NOT NULL:\n{alter} drop not null;"
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
            f"{', '.join(roles)} may create triggers on {table}. These would run as the role that installs "
            "usersync. Only raw SQL can create them, not the Data API",
            f"revoke trigger, references, truncate on {table.quoted} from {', '.join(roles)};",
            "warning",
        )


def no_users_table_findings(settings: Settings, inspection: Inspection) -> Iterator[Finding]:
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
            f"-- {_similar(key, inspection)}Set key to the column that holds the auth user's id.",
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
            "-- Such users can sign up, and usersync failures lists them. To change this, "
            f"{_ways_to_a_row(column, inspection.catalog)}drop NOT NULL:\n"
            f"alter table {table.quoted} alter column {quote(column.name)} drop not null;",
            "warning",
        )


def _ways_to_a_row(column: Column, catalog: Mapping[str, Any]) -> str:
    """What helps users without a value, before "drop NOT NULL"."""
    ways = []
    # Only one row of a UNIQUE column can have the default.
    if column.name not in catalog["users_unique_columns"] or column.on_conflict == "suffix":
        ways.append("give the column a default in [columns] (default = …), ")
    if column.sources[0].column == "email":
        ways.append('skip them (skip = ["without_email"]), ')
    return "".join([*ways, "or "]) if ways else ""


def _fix_of_missing(column: Column, settings: Settings, inspection: Inspection) -> str:
    """The fix for a missing column: add it, or change the mapping if the column was renamed or dropped."""
    catalog, table = inspection.catalog, settings.users_table
    mapped = {settings.key, *(each.name for each in settings.columns)}
    add = f"alter table {table.quoted} add column {quote(column.name)} {column.sql_type};"
    similar = _similar(column.name, inspection)
    if any(name not in mapped and _holds(column, about) for name, about in catalog["users_columns"].items()):
        return (
            f"-- {similar}If it was renamed, write its new name into [columns] of usersync.toml. If it was "
            f"dropped, remove it there. If it will be created: {add}"
        )
    return (
        f"-- {similar}Either write a [columns] section into usersync.toml that names only columns it has"
        f"{_proposal(settings, inspection)}, or add it:\n{add}"
    )


def _similar(name: str, inspection: Inspection) -> str:
    """The question whether a mistyped column is meant, if the table has one with a similar name."""
    near = difflib.get_close_matches(name, inspection.catalog["users_columns"], n=1, cutoff=0.8)
    return f"Did you mean {near[0]}? " if near else ""


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


_TYPE_NAMES = {"timestamptz": TIMESTAMPTZ}


def _needs_cast(column: Column, about: Mapping[str, Any]) -> bool:
    if column.expression is not None and column.type is None:
        return False  # computed_findings checks it in the database.
    if column.sql_type == "text":
        return not about["string"]
    wanted = _TYPE_NAMES.get(column.sql_type, (column.sql_type,))
    return column.type is None and about["type"] not in wanted and column.sql_type in SOURCE_TYPES.values()


def _proposal(settings: Settings, inspection: Inspection) -> str:
    there = [each.name for each in settings.columns if each.name in inspection.catalog["users_columns"]]
    return f" (of the mapped ones: {', '.join(there)})" if there else ""
