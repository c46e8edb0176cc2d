"""The output of ``usersync doctor``: checks, fixes and the canary."""

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
class CanaryResult:
    """The canary's trial, and its checks."""

    checks: tuple[Check, ...]
    trial: Trial


@dataclass(frozen=True)
class FixResult:
    """A fix that was run, and its error, if it failed."""

    codes: tuple[str, ...]
    fix: str
    sql: str
    error: str | None = None


@dataclass(frozen=True)
class DoctorView:
    """Each check in a line. A check with a problem has its detail and its fix below."""

    checks: tuple[Check, ...]
    target: str
    strict: bool = False
    trial: Trial | None = None
    fix_results: tuple[FixResult, ...] = ()

    def after(self, canary: CanaryResult) -> DoctorView:
        """This view with the canary's result."""
        return replace(self, checks=(*self.checks, *canary.checks), trial=canary.trial)

    @property
    def exit_code(self) -> int:
        """1 for a problem, with ``strict`` also for a warning, and if every check was skipped. Else 0."""
        found = self._by_status()
        failed = found["problem"] or (self.strict and found["warning"])
        return 1 if failed or found["skipped"] == len(self.checks) else 0

    def lines(self, width: int) -> Iterator[str]:
        yield bold(self.target)
        yield ""
        yield from self._fix_result_lines(width)
        for check in self.checks:
            yield from _check_lines(check, width)
        yield ""
        yield self._summary()
        if found := next((check.code for check in self.checks if check.fix), None):
            yield faint(f"More about a check:  usersync explain {found}")

    def _fix_result_lines(self, width: int) -> Iterator[str]:
        for each in self.fix_results:
            result = bad("failed") if each.error else good("done")
            yield from wrap(f"{', '.join(each.codes)}: {typed(each.fix.splitlines()[0])}: {result}", width)
            if each.error:
                yield from wrap(plain(each.error), width, first=_INDENT)
        if self.fix_results:
            yield ""

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "checks": [
                asdict(check) | {"fix": check.fix, "safe_fixes": check.safe_fixes} for check in self.checks
            ],
            "canary": _trial_data(self.trial),
            "fixes": [asdict(each) for each in self.fix_results],
            "summary": {status: self._by_status()[status] for status in _MARKS},
        }

    def _by_status(self) -> Counter[str]:
        return Counter(check.status for check in self.checks)

    def _summary(self) -> str:
        found = self._by_status()
        parts = [
            good(f"{found['ok']} ok"),
            warning(count(found["warning"], "warning")) if found["warning"] else "no warnings",
            bad(count(found["problem"], "problem")) if found["problem"] else "no problems",
        ]
        if found["skipped"]:
            parts.append(f"{found['skipped']} skipped")
        return ", ".join(parts)


def remedy_lines(remedy: Remedy, script: str) -> Iterator[str]:
    """The SQL of a fix, and the checks that it is for."""
    by = "" if remedy.fix == script else f": the SQL of {remedy.fix.splitlines()[0]}"
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


#: Makes each line of an advice an SQL comment, so that it can be pasted.
_ADVICE = f"{_INDENT}  -- "
_SHELL = ("usersync ", "pip ")


def _fix_lines(fix: list[str], width: int) -> Iterator[str]:
    """The fix, ready to paste. A fix of shell commands and SQL is printed in labelled parts."""
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
            # Never wrapped, with all spaces, so that it can be pasted.
            yield f"{_INDENT}  {typed(line if line.isprintable() else plain(line))}"
