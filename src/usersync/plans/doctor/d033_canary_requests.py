"""Whether the auth server's requests go through: every kind of sign-up and change, tried and rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import CanaryCheck, Verdict, number
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.plans.doctor.replay import Fault, Replay

#: Of waiting and of being cancelled: another session was in the way.
_BUSY = ("55P03", "57014", "40P01")


def judge(replay: Replay) -> Verdict:
    done = sum(attempt.state not in ("skipped", "late") for attempt in replay.attempts)
    return Verdict(
        f"{number(done, 'request')} as {replay.tried_as}, rolled back after {replay.seconds:.2f} s"
        + _who(replay),
        tuple(_findings(replay)),
    )


def _who(replay: Replay) -> str:
    if replay.was_assumed:
        return ""
    return (
        f". {replay.tried_as} may not take the role {replay.auth_role}, so what that role may do was "
        "looked up and not tried"
    )


def _findings(replay: Replay) -> Iterator[Finding]:
    if replay.obstacle is not None:
        yield Finding("D033", "trial", f"nothing was tried: {replay.obstacle.message}", replay.obstacle.fix)
    for attempt in replay.attempts:
        if attempt.state == "refused" and attempt.fault is not None:
            yield Finding(
                "D033", attempt.step, f"{attempt.step}: fails with {attempt.fault}", fix_of(attempt.fault)
            )
    for right in replay.lacking:
        yield Finding("D033", right.subject, f"not tried, looked up: {right.message}", right.fix)
    if late := [attempt.step for attempt in replay.attempts if attempt.state == "late"]:
        yield Finding(
            "D033",
            "trial",
            f"not tried, since the transaction had been open for {replay.seconds:.0f} s: {', '.join(late)}",
            "-- Statements are slow, or wait for locks. At a quieter hour:\nusersync doctor --canary",
            "warning",
        )


def fix_of(fault: Fault) -> str:
    """What to do against what stopped a request, or a row."""
    if fault.sqlstate in _BUSY:
        return "-- Another session was in the way. Once it is gone:\nusersync doctor --canary"
    if fault.raised_in is not None:
        where = f", run by the trigger {fault.trigger}" if fault.trigger else ""
        return (
            f"-- Mend {fault.raised_in}{where}. Its text:\n"
            f"select pg_get_functiondef({literal(fault.raised_in)}::regprocedure);"
        )
    if fault.sqlstate in ("23503", "23001"):
        return "usersync doctor --only D013,D016"
    if fault.sqlstate == "23505":
        return (
            "-- Drop the constraint, or have usersync.toml say what becomes of a value that is taken: "
            'on_conflict = "null" or "suffix" in the column\'s table'
        )
    return "usersync doctor --only D008,D012,D015"


CHECK = CanaryCheck("D033", "Canary: requests of the auth server", judge)
