"""What a rollback did not undo, or would not have undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import CanaryCheck, SkipCheckError, Verdict, lines
from usersync.models import Finding

if TYPE_CHECKING:
    from usersync.schema.trial.observation import Trial


def judge(trial: Trial) -> Verdict:
    if trial.lasting:
        return Verdict("", (_of_lasting(trial),))
    if trial.obstacle is not None:
        raise SkipCheckError("nothing was tried (see D033)")
    if not trial.moved:
        return Verdict("nothing, no sequence moved")
    return Verdict(f"numbers of keys, as a refused sign-up uses them up: {_moved(trial)}")


def _of_lasting(trial: Trial) -> Finding:
    untried = len(trial.held_back)
    was = f"{untried} flows were not tried" if untried else "they were tried all the same"
    moved = f". Sequences that moved: {_moved(trial)}" if trial.moved else ""
    return Finding(
        "D035",
        "trial",
        lines([*trial.lasting, f"A rollback does not undo that, so {was}{moved}"]),
        "-- If that does no harm here:\nusersync doctor --canary --call-out",
        "warning",
    )


def _moved(trial: Trial) -> str:
    return ", ".join(f"{each.name} by {each.by}" for each in trial.moved)


CHECK = CanaryCheck("D035", "Canary: what a rollback does not undo", judge)
