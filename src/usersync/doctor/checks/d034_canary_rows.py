"""Whether the row is as the mapping says after each accepted flow."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from usersync.doctor.checks.d033_canary_requests import fix_of
from usersync.doctor.context import CanaryCheck, SkipCheckError, Verdict, number
from usersync.models import Finding
from usersync.schema.trial.comparison import names_of

if TYPE_CHECKING:
    from usersync.schema.trial.observation import Fault, Trial

_OUTCOMES = {
    "failed": "leaves no row",
    "degraded": "leaves a degraded row",
    "differs": "leaves a row with other values than the mapping says",
}


def judge(trial: Trial) -> Verdict:
    if trial.obstacle is not None:
        raise SkipCheckError("nothing was tried (see D033)")
    if not trial.accepted:
        raise SkipCheckError("no flow was accepted (see D033)")
    # One finding for each cause.
    causes: dict[tuple[str, Fault], list[str]] = defaultdict(list)
    for each in trial.accepted:
        if each.row_state in _OUTCOMES and each.row_fault is not None:
            causes[_OUTCOMES[each.row_state], each.row_fault].append(each.flow)
    seen = sum(each.row_state == "ok" for each in trial.accepted)
    return Verdict(
        f"as the mapping says, after each of {number(seen, 'flow')}",
        tuple(_finding(names_of(flows, trial), outcome, fault) for (outcome, fault), flows in causes.items()),
    )


def _finding(flows: str, outcome: str, fault: Fault) -> Finding:
    return Finding("D034", flows, f"{flows}: {outcome}: {fault}", fix_of(fault))


CHECK = CanaryCheck("D034", "Canary: rows of the users table", judge)
