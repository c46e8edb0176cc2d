"""What the rollback did not undo, or would not have undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import CanaryCheck, SkipCheckError, Verdict, lines, number
from usersync.models import Finding

if TYPE_CHECKING:
    from usersync.schema.trial.observation import Trial


def judge(trial: Trial) -> Verdict:
    if trial.lasting:
        return Verdict("", (_of_lasting(trial),))
    if trial.obstacle is not None:
        raise SkipCheckError("nothing was tried (see D033)")
    if not trial.moved:
        return Verdict("nothing")
    return Verdict(f"sequence numbers, which a failed sign-up uses up, too: {_moved(trial)}")


def _of_lasting(trial: Trial) -> Finding:
    untried = len(trial.held_back)
    were = "was" if untried == 1 else "were"
    was = f"{number(untried, 'flow')} {were} not tried" if untried else "they were tried as you asked"
    moved = f". Numbers used up: {_moved(trial)}" if trial.moved else ""
    return Finding(
        "D035",
        "trial",
        lines([*trial.lasting, f"A rollback does not undo this; {was}{moved}"]),
        "-- If this does no harm here:\nusersync doctor --canary --call-out",
        "warning",
    )


def _moved(trial: Trial) -> str:
    return ", ".join(f"{each.name} by {each.by}" for each in trial.moved)


CHECK = CanaryCheck("D035", "Canary: what a rollback does not undo", judge)
