"""``usersync doctor``: numbered checks, one to a file, each with the fix. Writes nothing.

Every check looks in a read-only transaction of its own, so that one which fails leaves the others alone, and
so that the server itself sees to it that nothing is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from usersync.core.blockers import advice, blockers
from usersync.core.installed import require_membership
from usersync.doctor.context import Context, Definition, SkipCheckError, Verdict, lines
from usersync.doctor.fixes import APPLY
from usersync.doctor.register import CANARY, CHECKS, choose, choose_with_canary
from usersync.errors import BusyError, ConnectionFailedError, NotInstalledError, UsersyncError
from usersync.models import Check, Finding
from usersync.schema import installation
from usersync.schema.inspection import find, inspect
from usersync.sql.render import render_bundle
from usersync.transports.steps import Steps, query_row, read_only

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.doctor.context import CanaryCheck, Spool
    from usersync.models import SchemaPlan
    from usersync.schema.trial.observation import Trial

__all__ = ["CANARY", "CHECKS", "choose", "choose_with_canary", "examine", "judge"]


def examine(
    settings: Settings,
    checks: tuple[Definition, ...] = CHECKS,
    *,
    client_pid: int | None = None,
    order_known: bool = True,
    spool: Spool | None = None,
) -> Steps[tuple[Check, ...]]:
    """Make these checks, in their order. The connection must not be in a transaction.

    Raises ``ConnectionFailedError`` and nothing else: what goes wrong in a check is what it says.
    """
    try:
        context = yield from _admit(settings, client_pid, order_known=order_known, spool=spool)
    except ConnectionFailedError:
        raise
    except UsersyncError as error:
        return (yield from _turned_away(settings, checks, error))
    done = list[Check]()
    for check in checks:
        done.append((yield from _make(check, context)))
    return tuple(done)


def judge(trial: Trial, checks: tuple[CanaryCheck, ...] = CANARY) -> tuple[Check, ...]:
    """What is to be said of the flows that were tried."""
    return tuple(_judged(check, trial) for check in checks)


def _judged(check: CanaryCheck, trial: Trial) -> Check:
    try:
        return _concluded(check, check.judge(trial))
    except SkipCheckError as reason:
        return Check(check.code, check.title, "skipped", str(reason))


def _admit(
    settings: Settings, client_pid: int | None, *, order_known: bool, spool: Spool | None
) -> Steps[Context]:
    bundle = render_bundle(settings)
    inspection = yield from read_only(inspect(bundle))
    if inspection.noted is None and not any(each["kind"] == "schema" for each in inspection.conflicts):
        yield from require_membership()
    planned = yield from _planned(installation.plan_inspected(settings, bundle, inspection))
    found = find(settings, inspection)
    return Context(settings, bundle, inspection, found, planned, client_pid, order_known, spool)


def _planned(plan: Steps[SchemaPlan]) -> Steps[SchemaPlan | UsersyncError]:
    try:
        return (yield from read_only(plan))
    except ConnectionFailedError:
        raise
    except UsersyncError as error:
        return error


def _make(check: Definition, context: Context) -> Steps[Check]:
    try:
        _require(check, context)
        verdict = yield from read_only(check.look(context))
    except SkipCheckError as reason:
        return Check(check.code, check.title, "skipped", str(reason))
    except ConnectionFailedError:
        raise
    except Exception as error:  # noqa: BLE001 - one check's failure is not to hide what the others find
        return (yield from _failed(context.settings, check, error))
    return _concluded(check, verdict, apply_is_safe=context.apply_is_safe)


def _require(check: Definition, context: Context) -> None:
    if check.needs != "nothing" and context.inspection.catalog["source_columns"] is None:
        raise SkipCheckError(f"there is no table {context.settings.source_table} (see D001)")
    if check.needs == "users table" and not context.inspection.has_users_table:
        raise SkipCheckError(f"there is no table {context.settings.users_table}")
    if check.needs == "installation" and context.inspection.noted is None:
        raise SkipCheckError("usersync is not installed in this database (see D002)")


def _concluded(check: Definition | CanaryCheck, verdict: Verdict, *, apply_is_safe: bool = False) -> Check:
    if not verdict.findings:
        return Check(check.code, check.title, "ok", verdict.all_well)
    findings = tuple(
        replace(each, safe=each.safe and (apply_is_safe or each.fix != APPLY)) for each in verdict.findings
    )
    only_warnings = all(each.level == "warning" for each in findings)
    status: Literal["warning", "problem"] = "warning" if only_warnings else "problem"
    return Check(check.code, check.title, status, lines(each.message for each in findings), findings)


def _failed(settings: Settings, check: Definition, error: Exception) -> Steps[Check]:
    state = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    what = f"SQLSTATE {state}" if state else type(error).__name__
    detail = f"could not be checked: {error}"
    if what not in detail:
        detail += f" ({what})"
    finding = Finding(check.code, check.title, detail, (yield from _where_to_look(settings, error)))
    return Check(check.code, check.title, "problem", detail, (finding,))


def _where_to_look(settings: Settings, error: Exception) -> Steps[str]:
    if isinstance(error, BusyError):
        return f"-- {advice((yield from blockers(settings)))}"
    if isinstance(error, NotInstalledError):
        return "usersync doctor --only D003,D006"
    if getattr(error, "sqlstate", None) in {"42P01", "42703"}:
        return "usersync doctor --only D003,D006,D012"
    hint = error.hint if isinstance(error, UsersyncError) else None
    return f"-- {hint or 'The server log has the whole story.'}"


_WHO = """
    select current_user as role, owner.name as owner,
        coalesce(not pg_catalog.pg_has_role(owner.name, 'USAGE'), false) as is_stranger
    from (select) as nothing
    left join (
        select pg_catalog.pg_get_userbyid(nspowner) as name
        from pg_catalog.pg_namespace where nspname = 'usersync'
    ) as owner on true
"""


def _turned_away(
    settings: Settings, checks: tuple[Definition, ...], error: UsersyncError
) -> Steps[tuple[Check, ...]]:
    """The database could not be inspected: a table is locked, or this role lacks a privilege."""
    first = CHECKS[0]
    rest = (Check(each.code, each.title, "skipped", "see D001") for each in checks if each is not first)
    if isinstance(error, BusyError):
        return (yield from _failed(settings, first, error)), *rest
    who = yield from query_row(_WHO)
    detail = str(error) if who["role"] in str(error) else f"role {who['role']} cannot look: {error}"
    fix = f'usersync doctor --dsn "postgresql://{who["owner"] or "postgres"}:PASSWORD@HOST:5432/postgres"'
    finding = Finding(first.code, f"role {who['role']}", detail, fix)
    problem = Check(first.code, first.title, "problem", detail, (finding,))
    return problem, *rest
