"""``usersync doctor``: numbered checks, one to a file, each with the fix. Writes nothing.

Every check looks in a read-only transaction of its own, so that one which fails leaves the others alone, and
so that the server itself sees to it that nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import ConnectionFailedError, SettingsError, UsersyncError
from usersync.models import Check
from usersync.plans import schema
from usersync.plans.doctor import (
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
    d018_ledger,
    d019_runs,
    d020_settings,
    d021_replication_role,
    d022_timeouts,
    d023_pooler,
)
from usersync.plans.doctor.examination import Definition, Patient, SkipCheckError, Verdict, lines
from usersync.plans.inspection import inspect
from usersync.plans.protocol import Plan, in_transaction, query, query_row
from usersync.sql.render import render_bundle

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeVar

    from usersync.models import SchemaPlan
    from usersync.settings import Settings

    T = TypeVar("T")

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
    d018_ledger.CHECK,
    d019_runs.CHECK,
    d020_settings.CHECK,
    d021_replication_role.CHECK,
    d022_timeouts.CHECK,
    d023_pooler.CHECK,
)


def choose(codes: Collection[str]) -> tuple[Definition, ...]:
    """The checks of these codes, all of them for none. Raises :class:`SettingsError` for an unknown code."""
    known = {check.code for check in CHECKS}
    if unknown := sorted(set(codes) - known):
        raise SettingsError(
            f"no check {', '.join(unknown)}", hint=f"Checks are {CHECKS[0].code} to {CHECKS[-1].code}."
        )
    return tuple(check for check in CHECKS if not codes or check.code in codes)


def examine(
    settings: Settings,
    checks: tuple[Definition, ...] = CHECKS,
    *,
    client_pid: int | None = None,
    order_known: bool = True,
) -> Plan[tuple[Check, ...]]:
    """Make these checks, in their order. The connection must not be in a transaction.

    Raises :class:`ConnectionFailedError` and nothing else: what goes wrong in a check is what it says.
    """
    try:
        patient = yield from _read_only(_admit(settings, client_pid, order_known=order_known))
    except ConnectionFailedError:
        raise
    except UsersyncError as error:
        return (yield from _turned_away(checks, error))
    done = list[Check]()
    for check in checks:
        done.append((yield from _make(check, patient)))
    return tuple(done)


def _admit(settings: Settings, client_pid: int | None, *, order_known: bool) -> Plan[Patient]:
    bundle = render_bundle(settings)
    inspection = yield from inspect(bundle)
    planned = yield from _planned(settings)
    return Patient(settings, bundle, inspection, planned, client_pid, order_known)


def _planned(settings: Settings) -> Plan[SchemaPlan | UsersyncError]:
    try:
        return (yield from schema.plan(settings))
    except (ConnectionFailedError, GeneratorExit):
        raise
    except UsersyncError as error:
        return error


def _read_only(body: Plan[T]) -> Plan[T]:
    def guarded() -> Plan[T]:
        yield from query("set transaction read only")
        yield from query("select set_config('search_path', 'pg_catalog', true)")
        return (yield from body)

    return in_transaction(guarded())


def _make(check: Definition, patient: Patient) -> Plan[Check]:
    try:
        _require(check, patient)
        verdict = yield from _read_only(check.look(patient))
    except SkipCheckError as reason:
        return Check(check.code, check.title, "skipped", str(reason))
    except ConnectionFailedError:
        raise
    except Exception as error:  # noqa: BLE001 - one check's failure is not to hide what the others find
        return _failed(check, error)
    return _concluded(check, verdict)


def _require(check: Definition, patient: Patient) -> None:
    if check.needs != "nothing" and patient.inspection.catalog["source_columns"] is None:
        raise SkipCheckError(f"there is no table {patient.settings.source_table} (see D001)")
    if check.needs == "users table" and not patient.inspection.has_users_table:
        raise SkipCheckError(f"there is no table {patient.settings.users_table}")
    if check.needs == "installation" and patient.inspection.noted is None:
        raise SkipCheckError("usersync is not installed in this database (see D002)")


def _concluded(check: Definition, verdict: Verdict) -> Check:
    troubles = verdict.troubles
    if not troubles:
        return Check(check.code, check.title, "ok", verdict.all_well)
    return Check(
        check.code,
        check.title,
        "problem" if any(trouble.level == "problem" for trouble in troubles) else "warning",
        lines(trouble.detail for trouble in troubles),
        lines(trouble.fix for trouble in troubles),
    )


def _failed(check: Definition, error: Exception) -> Check:
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    what = f"SQLSTATE {state}" if state else type(error).__name__
    hint = error.hint if isinstance(error, UsersyncError) else None
    return Check(
        check.code,
        check.title,
        "problem",
        lines(
            [
                f"could not be checked: {error} ({what})"
                if what not in str(error)
                else f"could not be checked: {error}",
                *([hint] if hint else []),
            ]
        ),
        "usersync doctor --verbose",
    )


_WHO = """
    select current_user as role,
        (select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'usersync') as owner
"""


def _turned_away(checks: tuple[Definition, ...], error: UsersyncError) -> Plan[tuple[Check, ...]]:
    """The database would not even be looked at, usually because this role may not."""
    who = yield from query_row(_WHO)
    first = CHECKS[0]
    problem = Check(
        first.code,
        first.title,
        "problem",
        f"role {who['role']} cannot look at the database: {error}",
        f'usersync doctor --dsn "postgresql://{who["owner"] or "postgres"}:PASSWORD@HOST:5432/postgres"',
    )
    rest = (check for check in checks if check is not first)
    return problem, *(Check(each.code, each.title, "skipped", "see D001") for each in rest)
