"""What prevents an installation, and what may fail after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usersync.audit.inspection import audit_findings
from usersync.config.settings import COPIED_COLUMNS
from usersync.models import Finding
from usersync.schema.adoption import adoption
from usersync.schema.reference_findings import reference_findings
from usersync.schema.third_party_triggers import trigger_findings
from usersync.schema.users_table_findings import no_users_table_findings, users_table_findings
from usersync.sql.row_rules import SKIPPED_BY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection

OLDEST_SERVER = 150000

#: The code of a finding about missing privileges.
LACKING = "D008"

#: The code of a finding about a database that accepts no writes.
READ_ONLY = "D036"

#: The subject of the finding about a pause.
PAUSED = "table usersync.pause"


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
        *(users_table_findings if inspection.has_users_table else no_users_table_findings)(
            settings, inspection
        ),
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
