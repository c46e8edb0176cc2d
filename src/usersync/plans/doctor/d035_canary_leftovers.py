"""What the canary could not take back, or would not have been able to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import CanaryCheck, SkipCheckError, Verdict, lines

if TYPE_CHECKING:
    from usersync.plans.doctor.replay import Replay


def judge(replay: Replay) -> Verdict:
    if replay.calling_out:
        was = "was not tried" if replay.obstacle else "was tried all the same"
        return Verdict(
            "",
            (
                Finding(
                    "D035",
                    "trial",
                    lines([*replay.calling_out, f"No rollback takes that back, so it {was}"]),
                    "-- If whoever is asked does not mind:\nusersync doctor --canary --call-out",
                    "problem" if replay.obstacle else "warning",
                ),
            ),
        )
    if replay.obstacle is not None:
        raise SkipCheckError("nothing was tried (see D033)")
    if not replay.moved:
        return Verdict("nothing, no sequence moved")
    moved = ", ".join(f"{each.name} by {each.by}" for each in replay.moved)
    return Verdict(f"sequences that triggers drew from, as each refused sign-up moves them: {moved}")


CHECK = CanaryCheck("D035", "Canary: what stays behind", judge)
