"""Whether each of the requests that went through left the users table as the mapping says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import CanaryCheck, SkipCheckError, Verdict
from usersync.plans.doctor.d033_canary_requests import fix_of

if TYPE_CHECKING:
    from usersync.plans.doctor.replay import Replay

_OUTCOMES = {
    "failed": "leaves no row",
    "degraded": "leaves less than the whole row",
    "differs": "leaves another row than it should",
}


def judge(replay: Replay) -> Verdict:
    if replay.obstacle is not None:
        raise SkipCheckError("nothing was tried (see D033)")
    # The same cause is behind many a request.
    causes: dict[tuple[str, str], list[str]] = {}
    fixes = {}
    for attempt in replay.attempts:
        if attempt.state in _OUTCOMES and attempt.fault is not None:
            cause = (_OUTCOMES[attempt.state], str(attempt.fault))
            causes.setdefault(cause, []).append(attempt.step)
            fixes[cause] = fix_of(attempt.fault)
    seen = sum(attempt.state == "ok" for attempt in replay.attempts)
    if not seen and not causes:
        raise SkipCheckError("no request went through (see D033)")
    return Verdict(
        f"as the mapping says, after each of {seen}",
        tuple(
            Finding("D034", ", ".join(steps), f"{', '.join(steps)}: {cause[0]}: {cause[1]}", fixes[cause])
            for cause, steps in causes.items()
        ),
    )


CHECK = CanaryCheck("D034", "Canary: rows of the users table", judge)
