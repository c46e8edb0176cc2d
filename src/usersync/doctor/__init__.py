"""``usersync doctor``: numbered checks, one to a file, each with the fix. Writes nothing.

Each check runs in its own read-only transaction: a failed check does not affect the others, and the server
refuses every write.
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
from usersync.schema.findings import find
from usersync.schema.inspection import inspect
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
    """Run these checks, in their order. The connection must not be in a transaction.

    Raises only ``ConnectionFailedError``: any other error in a check is that check's result.
    """
    try:
        context = yield from _inspect(settings, client_pid, order_known=order_known, spool=spool)
    except ConnectionFailedError:
        raise
    except UsersyncError as error:
        return (yield from _not_inspected(settings, checks, error))
    done = list[Check]()
    for check in checks:
        done.append((yield from _run(check, context)))
    return tuple(done)


def judge(trial: Trial, checks: tuple[CanaryCheck, ...] = CANARY) -> tuple[Check, ...]:
    """Evaluate the flows that the canary tried."""
    return tuple(_judge_one(check, trial) for check in checks)


def _judge_one(check: CanaryCheck, trial: Trial) -> Check:
    try:
        return _result(check, check.judge(trial))
    except SkipCheckError as reason:
        return Check(check.code, check.title, "skipped", str(reason))


def _inspect(
    settings: Settings, client_pid: int | None, *, order_known: bool, spool: Spool | None
) -> Steps[Context]:
    bundle = render_bundle(settings)
    inspection = yield from read_only(inspect(bundle))
    if inspection.noted is None and not any(each["kind"] == "schema" for each in inspection.conflicts):
        yield from require_membership()
    planned = yield from _plan_or_error(installation.plan_inspected(settings, bundle, inspection))
    found = find(settings, inspection)
    return Context(settings, bundle, inspection, found, planned, client_pid, order_known, spool)


def _plan_or_error(plan: Steps[SchemaPlan]) -> Steps[SchemaPlan | UsersyncError]:
    try:
        return (yield from read_only(plan))
    except ConnectionFailedError:
        raise
    except UsersyncError as error:
        return error


def _run(check: Definition, context: Context) -> Steps[Check]:
    try:
        _skip_if_impossible(check, context)
        verdict = yield from read_only(check.look(context))
    except SkipCheckError as reason:
        return Check(check.code, check.title, "skipped", str(reason))
    except ConnectionFailedError:
        raise
    except Exception as error:  # noqa: BLE001 - a failed check must not hide the results of the others
        return (yield from _failed(context.settings, check, error))
    return _result(check, verdict, apply_is_safe=context.apply_is_safe)


def _skip_if_impossible(check: Definition, context: Context) -> None:
    if check.needs != "nothing" and context.inspection.catalog["source_columns"] is None:
        raise SkipCheckError(f"there is no table {context.settings.source_table} (see D001)")
    if check.needs == "users table" and not context.inspection.has_users_table:
        raise SkipCheckError(f"there is no table {context.settings.users_table}")
    if check.needs == "installation" and context.inspection.noted is None:
        raise SkipCheckError("usersync is not installed in this database (see D002)")


def _result(check: Definition | CanaryCheck, verdict: Verdict, *, apply_is_safe: bool = False) -> Check:
    if not verdict.findings:
        return Check(check.code, check.title, "ok", verdict.ok_detail)
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
    finding = Finding(check.code, check.title, detail, (yield from _fix_for(settings, error)))
    return Check(check.code, check.title, "problem", detail, (finding,))


def _fix_for(settings: Settings, error: Exception) -> Steps[str]:
    if isinstance(error, BusyError):
        return f"-- {advice((yield from blockers(settings)))}"
    if isinstance(error, NotInstalledError):
        return "usersync doctor --only D003,D006"
    if getattr(error, "sqlstate", None) in {"42P01", "42703"}:
        return "usersync doctor --only D003,D006,D012"
    hint = error.hint if isinstance(error, UsersyncError) else None
    return f"-- {hint or 'The server log has the details.'}"


_ROLE = """
    select current_user as role, owner.name as owner
    from (select) as nothing
    left join (
        select pg_catalog.pg_get_userbyid(nspowner) as name
        from pg_catalog.pg_namespace where nspname = 'usersync'
    ) as owner on true
"""


def _not_inspected(
    settings: Settings, checks: tuple[Definition, ...], error: UsersyncError
) -> Steps[tuple[Check, ...]]:
    """The database could not be inspected: a table is locked, or this role lacks a privilege."""
    first = CHECKS[0]
    rest = (Check(each.code, each.title, "skipped", "see D001") for each in checks if each is not first)
    if isinstance(error, BusyError):
        return (yield from _failed(settings, first, error)), *rest
    roles = yield from query_row(_ROLE)
    detail = str(error)
    if roles["role"] not in detail:
        detail = f"the role {roles['role']} cannot inspect the database: {error}"
    fix = f'usersync doctor --dsn "postgresql://{roles["owner"] or "postgres"}:PASSWORD@HOST:5432/postgres"'
    finding = Finding(first.code, f"role {roles['role']}", detail, fix)
    problem = Check(first.code, first.title, "problem", detail, (finding,))
    return problem, *rest
