"""What the doctor found, did and tried, as ``usersync doctor`` shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.cli.text import bad, bold, count, faint, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.doctor.fixes import Remedy
    from usersync.models import Check
    from usersync.schema.trial.observation import Observation, Trial

_INDENT = " " * 8

_MARKS: dict[str, tuple[str, Callable[[str], str]]] = {
    "ok": ("✓", good),
    "warning": ("!", warning),
    "problem": ("✗", bad),
    "skipped": ("-", faint),
}


@dataclass(frozen=True)
class Flown:
    """What the canary tried, and what is to be said of it."""

    checks: tuple[Check, ...]
    trial: Trial


@dataclass(frozen=True)
class Mended:
    """A fix that was run, and why it failed, if it did."""

    codes: tuple[str, ...]
    fix: str
    sql: str
    error: str | None = None


@dataclass(frozen=True)
class DoctorView:
    """A line for each check that is well; what is wrong and the fix under each that is not."""

    checks: tuple[Check, ...]
    target: str
    strict: bool = False
    trial: Trial | None = None
    mended: tuple[Mended, ...] = ()

    def after(self, flown: Flown) -> DoctorView:
        """With what the canary found."""
        return replace(self, checks=(*self.checks, *flown.checks), trial=flown.trial)

    @property
    def exit_code(self) -> int:
        """Warnings count with ``strict``. Where nothing could be checked, nothing is known to be well."""
        found = self._tally()
        failed = found["problem"] or (self.strict and found["warning"])
        return 1 if failed or found["skipped"] == len(self.checks) else 0

    def lines(self, width: int) -> Iterator[str]:
        yield bold(self.target)
        yield ""
        yield from self._mended_lines(width)
        for check in self.checks:
            yield from _check_lines(check, width)
        yield ""
        yield self._summary()
        if found := next((check.code for check in self.checks if check.fix), None):
            yield faint(f"Why a check matters:  usersync explain {found}")

    def _mended_lines(self, width: int) -> Iterator[str]:
        for each in self.mended:
            said = bad("failed") if each.error else good("done")
            yield from wrap(f"{', '.join(each.codes)}: {typed(each.fix.splitlines()[0])}: {said}", width)
            if each.error:
                yield from wrap(plain(each.error), width, first=_INDENT)
        if self.mended:
            yield ""

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "checks": [
                asdict(check) | {"fix": check.fix, "safe_fixes": check.safe_fixes} for check in self.checks
            ],
            "canary": _trial_data(self.trial),
            "mended": [asdict(each) for each in self.mended],
            "summary": {status: self._tally()[status] for status in _MARKS},
        }

    def _tally(self) -> Counter[str]:
        return Counter(check.status for check in self.checks)

    def _summary(self) -> str:
        found = self._tally()
        parts = [
            good(f"{found['ok']} ok"),
            warning(count(found["warning"], "warning")) if found["warning"] else "no warnings",
            bad(count(found["problem"], "problem")) if found["problem"] else "no problems",
        ]
        if found["skipped"]:
            parts.append(f"{found['skipped']} skipped")
        return ", ".join(parts)


def remedy_lines(remedy: Remedy, script: str) -> Iterator[str]:
    """What is about to be run, and for which checks."""
    by = "" if remedy.fix == script else f", which is what {remedy.fix.splitlines()[0]} runs"
    yield faint(f"-- {', '.join(remedy.codes)}{by}")
    for line in script.splitlines():
        yield line if line.isprintable() else plain(line)
    yield ""


def _trial_data(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "auth_role": trial.auth_role,
        "tried_as": trial.tried_as,
        "seconds": round(trial.seconds, 3),
        "attempts": [_attempt_data(each) for each in trial],
        "moved_sequences": [asdict(each) for each in trial.moved],
    }


def _attempt_data(seen: Observation) -> dict[str, Any]:
    fault = seen.fault or seen.row_fault
    return {
        "step": seen.flow,
        "state": seen.row_state or seen.state,
        "reason": seen.reason or None,
        "fault": asdict(fault) if fault else None,
        "fails_without_usersync": seen.fails_without,
    }


def _check_lines(check: Check, width: int) -> Iterator[str]:
    mark, style = _MARKS[check.status]
    head = f"{style(mark)} {check.code}  "
    if check.fix is None:
        yield from wrap(f"{check.title}: {plain(check.detail)}", width, first=head)
        return
    yield head + bold(check.title)
    for line in check.detail.splitlines():
        yield from wrap(plain(line), width, first=_INDENT)
    yield from _fix_lines(check.fix.splitlines(), width)


#: Leads each line of an advice, so that it stays a comment where it is pasted.
_ADVICE = f"{_INDENT}  -- "
_SHELL = ("usersync ", "pip ")


def _fix_lines(fix: list[str], width: int) -> Iterator[str]:
    """What to paste; where a part is for the database and a part for a shell, which is which."""
    both = len({line.startswith(_SHELL) for line in fix if not line.startswith("--")}) > 1
    if not both:
        yield f"{_INDENT}fix:"
    shown = None
    for number, line in enumerate(fix):
        follower = next((each for each in fix[number:] if not each.startswith("--")), line)
        place = "fix, in a shell:" if follower.startswith(_SHELL) else "fix, as SQL:"
        if both and place != shown:
            shown = place
            yield f"{_INDENT}{place}"
        if line.startswith("-- "):
            advice = wrap(plain(line[3:]), width - len(_ADVICE))
            yield from (f"{_ADVICE}{typed(each)}" for each in advice)
        else:
            # Never wrapped, and every space kept: it is there to be pasted.
            yield f"{_INDENT}  {typed(line if line.isprintable() else plain(line))}"
