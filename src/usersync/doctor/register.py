"""All checks by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.checks import (
    d001_connection,
    d002_installation,
    d003_migrations,
    d004_triggers,
    d005_other_triggers,
    d006_functions,
    d007_function_safety,
    d008_owner_rights,
    d009_api_rights,
    d010_row_security,
    d011_anonymous_readers,
    d012_users_table,
    d013_auth_reference,
    d014_deferred,
    d015_users_triggers,
    d016_blocking_references,
    d017_drift,
    d018_sync_failures,
    d019_runs,
    d020_settings,
    d021_replication_role,
    d022_timeouts,
    d023_pooler,
    d024_append_only,
    d025_audit_table,
    d026_audit_rights,
    d027_audit_partitions,
    d028_rejected_events,
    d029_tracked_tables,
    d030_network,
    d031_clock,
    d032_spool,
    d033_canary_requests,
    d034_canary_rows,
    d035_canary_leftovers,
    d036_writable,
    d037_canary_event,
    d038_subscriptions,
)
from usersync.errors import ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Collection

    from usersync.doctor.context import CanaryCheck, Definition

CHECKS: tuple[Definition, ...] = (
    d001_connection.CHECK,
    d002_installation.CHECK,
    d003_migrations.CHECK,
    d004_triggers.CHECK,
    d005_other_triggers.CHECK,
    d006_functions.CHECK,
    d007_function_safety.CHECK,
    d008_owner_rights.CHECK,
    d009_api_rights.CHECK,
    d010_row_security.CHECK,
    d011_anonymous_readers.CHECK,
    d012_users_table.CHECK,
    d013_auth_reference.CHECK,
    d014_deferred.CHECK,
    d015_users_triggers.CHECK,
    d016_blocking_references.CHECK,
    d017_drift.CHECK,
    d018_sync_failures.CHECK,
    d019_runs.CHECK,
    d020_settings.CHECK,
    d021_replication_role.CHECK,
    d022_timeouts.CHECK,
    d023_pooler.CHECK,
    d024_append_only.CHECK,
    d025_audit_table.CHECK,
    d026_audit_rights.CHECK,
    d027_audit_partitions.CHECK,
    d028_rejected_events.CHECK,
    d029_tracked_tables.CHECK,
    d030_network.CHECK,
    d031_clock.CHECK,
    d032_spool.CHECK,
    d036_writable.CHECK,
    d038_subscriptions.CHECK,
)

#: Only with ``--canary``: they evaluate its results.
CANARY: tuple[CanaryCheck, ...] = (
    d033_canary_requests.CHECK,
    d034_canary_rows.CHECK,
    d035_canary_leftovers.CHECK,
    d037_canary_event.CHECK,
)


def choose(codes: Collection[str]) -> tuple[Definition, ...]:
    """The checks with these codes; all checks without codes. Raises ``SettingsError`` for an unknown code."""
    known = {check.code for check in CHECKS}
    if unknown := sorted(set(codes) - known):
        raise ArgumentValueError(f"no check {', '.join(unknown)}", hint=_hint(unknown))
    return tuple(check for check in CHECKS if not codes or check.code in codes)


def choose_with_canary(codes: Collection[str]) -> tuple[tuple[Definition, ...], tuple[CanaryCheck, ...]]:
    """The same with the canary's checks: those that are named, else all of them."""
    of_canary = tuple(check for check in CANARY if check.code in codes)
    others = set(codes) - {check.code for check in CANARY}
    return (choose(others) if others or not codes else (), of_canary or CANARY)


def _hint(unknown: Collection[str]) -> str:
    if {check.code for check in CANARY}.issuperset(unknown):
        return f"{', '.join(check.code for check in CANARY)} need --canary."
    return f"Checks are {CHECKS[0].code} to {CHECKS[-1].code}."
