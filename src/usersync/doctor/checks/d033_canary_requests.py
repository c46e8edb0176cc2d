"""Whether the auth server's flows are accepted: every sign-up, change and deletion, tried and rolled back."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from usersync.doctor.context import CanaryCheck, Verdict, number
from usersync.models import Finding
from usersync.schema.trial.comparison import names_of
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.schema.trial.observation import Fault, Observation, Trial


def judge(trial: Trial) -> Verdict:
    done = len(trial) - len(trial.not_tried)
    return Verdict(
        f"{number(done, 'flow')} as {trial.tried_as}, each rolled back, in {trial.seconds:.1f} s"
        + _role(trial),
        tuple(_findings(trial)),
    )


def _role(trial: Trial) -> str:
    if trial.was_assumed:
        return ""
    return (
        f". {trial.tried_as} may not take the role {trial.auth_role}, so that role's privileges were "
        "looked up, not tried"
    )


def _findings(trial: Trial) -> Iterator[Finding]:
    if trial.obstacle is not None:
        yield Finding("D033", "trial", f"nothing was tried: {trial.obstacle.message}", trial.obstacle.fix)
    yield from _refusals(trial)
    for right in trial.lacking:
        yield Finding("D033", right.subject, f"not tried, looked up: {right.message}", right.fix)
    yield from _untried(trial)


def _refusals(trial: Trial) -> Iterator[Finding]:
    """One finding for each cause, with all flows that failed because of it."""
    causes: dict[tuple[Fault, bool | None], list[Observation]] = defaultdict(list)
    for each in trial.refused:
        if each.fault is not None:
            causes[each.fault, each.fails_without].append(each)
    for (fault, fails_without), flows in causes.items():
        names = names_of([each.flow for each in flows], trial)
        yield Finding(
            "D033",
            names,
            f"{names}: refused with {fault}. {_WITHOUT[fails_without]}",
            fix_of(fault),
            # A flow that fails without usersync may always have failed, but some sign-up has to succeed.
            "warning" if fails_without and not trial.observed_nothing else "problem",
        )


_WITHOUT = {
    True: "Without usersync's triggers it is refused, too.",
    False: "Without usersync's triggers it is accepted.",
    None: "Whether it is refused without usersync's triggers, too, was not tried.",
}


def _untried(trial: Trial) -> Iterator[Finding]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for each in trial.not_tried:
        if each.blocked_by is None and not each.not_needed:
            reasons[each.reason].append(each.flow)
    for reason, flows in reasons.items():
        yield Finding(
            "D033",
            "trial",
            f"not tried: {names_of(flows, trial)}: {reason}",
            "-- See D035. If statements were slow or waited for locks, try again at a quieter hour:\n"
            "usersync doctor --canary",
            "warning",
        )


def fix_of(fault: Fault) -> str:
    """What to do about the error of a request or of a row."""
    if fault.sqlstate in ("55P03", "57014", "40P01"):
        return "-- Another session held a lock. Once it has ended:\nusersync doctor --canary"
    if fault.raised_in is not None:
        where = f", run by the trigger {fault.trigger}" if fault.trigger else ""
        return (
            f"-- Fix {fault.raised_in}{where}. Its text:\n"
            f"select pg_get_functiondef({literal(fault.raised_in)}::regprocedure);"
        )
    if fault.sqlstate in ("23503", "23001"):
        return "usersync doctor --only D013,D016"
    if fault.sqlstate == "23505":
        return (
            "-- Drop the constraint, or set in usersync.toml what becomes of a duplicate value: "
            'on_conflict = "null" or "suffix" in the column\'s table'
        )
    return "usersync doctor --only D008,D012,D015"


CHECK = CanaryCheck("D033", "Canary: flows of the auth server", judge)
