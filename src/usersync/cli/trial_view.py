"""The result of a trial, for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from usersync.cli.text import bad, bold, count, faint, good, plain, warning, wrap
from usersync.schema.trial.comparison import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usersync.schema.trial.comparison import Difference
    from usersync.schema.trial.observation import Trial
    from usersync.schema.trial.rehearsal import Rehearsal

_MARKS = {
    "refused": bad("  ✗ "),
    "different": warning("  ! "),
    "untried": warning("  ! "),
    "accepted": good("  ✓ "),
    "admitted": warning("  ! "),
}


def today_lines(trial: Trial, width: int) -> Iterator[str]:
    """Flows that fail already, and flows that were not tried."""
    if trial.obstacle is not None:
        yield from wrap(f"The trial did not run: {trial.obstacle.message}.", width, first=warning("  ! "))
        return
    if trial.refused:
        yield bold("Fails today, before usersync")
        for fault, flows in _grouped((str(each.fault), each.flow) for each in trial.refused):
            yield from wrap(plain(f"{names_of(flows, trial)}: {fault}"), width, first=bad("  ✗ "))
        yield ""
    if trial.lacking:
        yield bold(
            f"Privileges that {trial.auth_role} lacks (looked up, because the trial ran as {trial.tried_as})"
        )
        for each in trial.lacking:
            yield from wrap(plain(each.message), width, first=bad("  ✗ "))
        yield ""
    yield from _not_tried_lines(trial, width)
    if trial.observed_nothing:
        text = "No sign-up succeeded in the trial, so it did not observe your triggers for a new user."
        yield from wrap(text, width, first=warning("  ! "))
        yield ""


def not_undone_lines(trial: Trial, width: int) -> Iterator[str]:
    """The effects that a rollback would not undo, for the question whether to try these flows."""
    yield bold("A rollback would not undo")
    for each in trial.lasting:
        yield from wrap(plain(each), width, first=warning("  ! "))
    flows = count(len(trial.held_back), "flow")
    yield from wrap(f"{flows} were not tried. Each of them would do this once or a few times.", width)


def _not_tried_lines(trial: Trial, width: int) -> Iterator[str]:
    reasons = _grouped((each.reason, each.flow) for each in trial.not_tried if each.blocked_by is None)
    if not reasons:
        return
    yield bold("Not tried")
    for reason, flows in reasons:
        yield from wrap(plain(f"{names_of(flows, trial)}: {reason}"), width, first=warning("  ! "))
    yield ""


def difference_lines(done: Rehearsal, width: int) -> Iterator[str]:
    """The differences with usersync."""
    tried = len(done.before) - len(done.before.not_tried)
    if not done.differences:
        if tried:
            who = f"tried as {done.before.tried_as}"
            yield f"{good('Unchanged:')} {count(tried, 'flow')} of the auth server, {who} and rolled back."
        yield from _timing_lines(done, width)
        return
    yield bold("Different with usersync")
    for each in done.differences:
        where = f"{names_of(each.flows, done.before)}: "
        yield from wrap(plain(where + _message(each)), width, first=_MARKS[each.effect])
    alike = tried - len({flow for each in done.differences for flow in each.flows})
    unchanged = f"{count(alike, 'flow')} unchanged. " if alike else ""
    yield faint(f"  {unchanged}Tried as {done.before.tried_as}, and rolled back.")
    yield from _timing_lines(done, width)


def _timing_lines(done: Rehearsal, width: int) -> Iterator[str]:
    if done.timings:
        parts = [f"{each.flow} {each.usersync:.2f} of {each.total:.2f} ms" for each in done.timings]
        text = f"Time in usersync's triggers (median): {', '.join(parts)}."
        yield from map(faint, wrap(text, width, first="  "))


def _message(each: Difference) -> str:
    return each.message if each.subject == "auth.users" else f"{each.subject}: {each.message}"


def trial_data(done: Rehearsal) -> dict[str, Any]:
    """The result of a trial for programs."""
    return {
        "tried_as": done.before.tried_as,
        "obstacle": done.before.obstacle.message if done.before.obstacle else None,
        "failed_before": [
            {"flow": each.flow, "sqlstate": each.fault.sqlstate, "message": each.fault.message}
            for each in done.before.refused
            if each.fault
        ],
        "not_tried": [{"flow": each.flow, "reason": each.reason} for each in done.before.not_tried],
        "differences": [
            {
                "effect": each.effect,
                "subject": each.subject,
                "message": each.message,
                "flows": list(each.flows),
                "must_be_accepted": each.must_be_accepted,
            }
            for each in done.differences
        ],
        "milliseconds": [asdict(each) for each in done.timings],
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, flow in pairs:
        found[key].append(flow)
    return list(found.items())
