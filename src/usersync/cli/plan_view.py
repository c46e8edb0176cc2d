"""A change to the schema as ``plan``, ``apply`` and ``rollback`` show it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.text import align, bad, bold, clip, count, faint, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from usersync.models import Change, Finding, SchemaPlan

_SYMBOLS = {
    "create": good("+"),
    "replace": warning("~"),
    "alter": warning("!"),
    "drop": bad("-"),
    "keep": faint("="),
}


#: How many differing settings are listed.
_MOST_SETTINGS = 12


@dataclass(frozen=True)
class PlanView:
    """The findings, then the pending changes, grouped by kind of object."""

    plan: SchemaPlan
    target: str
    settings_source: str
    #: Settings that have changed since usersync was last applied: name, value then, value now.
    differing: tuple[tuple[str, str, str], ...] = ()
    #: The command to run next, for the last line.
    next_step: str | None = None
    with_sql: bool = False
    #: Whether each changed function is listed.
    verbose: bool = False
    #: The exit code if changes are pending.
    code_for_changes: int = 0

    @property
    def exit_code(self) -> int:
        return {"blocked": 1, "changes": self.code_for_changes}.get(self.state, 0)

    @property
    def state(self) -> str:
        """``blocked``, ``changes`` or ``up to date``."""
        if self.plan.errors:
            return "blocked"
        return "changes" if self.plan.changes else "up to date"

    def lines(self, width: int) -> Iterator[str]:
        if self.with_sql:
            yield from self._script()
            return
        yield from align([("Database", bold(self.target)), ("Settings", self.settings_source)])
        yield from _settings_lines(self.differing, self.settings_source, width)
        yield from finding_lines(self.plan.findings, width)
        yield from change_lines(self._shown(), width, verbose=self.verbose)
        yield ""
        yield from self._conclusion()

    def _shown(self) -> tuple[Change, ...]:
        """The changes, without those of triggers that an error is about."""
        if not self.plan.errors:
            return self.plan.changes
        return tuple(each for each in self.plan.changes if not self._has_error(each))

    def _has_error(self, change: Change) -> bool:
        return change.kind != "create" and change.subject in {each.subject for each in self.plan.errors}

    def _conclusion(self) -> Iterator[str]:
        if self.state == "blocked":
            yield f"{bad('Cannot continue:')} fix {count(len(self.plan.errors), 'error')} first."
        elif self.state == "up to date":
            yield from self._up_to_date()
        elif self.next_step:
            yield f"Nothing was changed. To continue:  {typed(self.next_step)}"

    def _up_to_date(self) -> Iterator[str]:
        warnings = len(self.plan.findings)
        if warnings:
            above = "warning" if warnings == 1 else f"{warnings} warnings"
            yield f"Nothing to change. See the {above} above."
        else:
            yield good("Everything is up to date. Nothing to change.")

    def _script(self) -> Iterator[str]:
        yield f"-- The SQL that usersync would run on {self.target}; settings: {self.settings_source}"
        for finding in self.plan.findings:
            yield f"-- {finding.level}: {plain(finding.message)}"
        for change in self.plan.changes:
            yield ""
            yield f"-- {change.kind} {plain(change.subject)}"
            yield change.sql.rstrip()

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "state": self.state,
            "settings": {
                "source": self.settings_source,
                "differing": [*dict.fromkeys(name.partition(".")[0] for name, *_ in self.differing)],
                "differences": [
                    {"name": name, "applied": there, "read": here} for name, there, here in self.differing
                ],
            },
            "findings": [asdict(finding) for finding in self.plan.findings],
            "changes": [change_data(change, with_sql=self.with_sql) for change in self._shown()],
        }


def change_data(change: Change, *, with_sql: bool = False) -> dict[str, Any]:
    """A change for programs, with its long SQL on request only."""
    data = asdict(change)
    return data if with_sql else {name: data[name] for name in ("kind", "subject", "reason")}


def done_lines(changes: Collection[Change], width: int, what: str = "") -> list[str]:
    """What was done, and the number of changes by kind."""
    kinds = Counter(change.subject.split(" ")[0] for change in changes)
    other = len(changes) - kinds["function"] - kinds["trigger"]
    other_word = "other change" if other < len(changes) else "change"
    parts = ((kinds["function"], "function"), (kinds["trigger"], "trigger"), (other, other_word))
    counted = ", ".join(count(number, word) for number, word in parts if number)
    return wrap(f"{what}{counted}.", width, first=f"{good('Done:')} ")


def _settings_lines(differing: tuple[tuple[str, str, str], ...], source: str, width: int) -> Iterator[str]:
    if not differing:
        return
    yield ""
    text = f"usersync was applied to this database with other settings than in {source}:"
    yield from wrap(text, width, first=warning("  ! "))
    for name, there, here in differing[:_MOST_SETTINGS]:
        before, after = _differing_parts(plain(there), plain(here))
        told = f"{plain(name)} was {before}, and is {after} in {source}"
        yield from wrap(told, width, first="    - ")
    if len(differing) > _MOST_SETTINGS:
        yield f"    - {len(differing) - _MOST_SETTINGS} more"
    hint = "If the file is for another database, change the directory, or name the right file with --config."
    yield from wrap(hint, width, first="    ")


_SHOWN, _SHOWN_BEFORE = 60, 20


def _differing_parts(before: str, after: str) -> tuple[str, str]:
    """Both texts, cut such that their first difference is in what is shown."""
    if max(len(before), len(after)) <= _SHOWN:
        return before, after
    pairs = enumerate(zip(before, after, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(before), len(after)))
    start = max(same - _SHOWN_BEFORE, 0)
    begin = "…" if start else ""
    return f"{begin}{clip(before[start:], _SHOWN)}", f"{begin}{clip(after[start:], _SHOWN)}"


def finding_lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """The findings, errors first."""
    marks = {"error": bad("  ✗ "), "problem": warning("  ! "), "warning": warning("  ! ")}
    for finding in sorted(findings, key=lambda each: each.level != "error"):
        yield ""
        yield from wrap(plain(finding.message), width, first=marks[finding.level])
        for line in (finding.hint or "").splitlines():
            yield from map(faint, wrap(plain(line), width, first="    "))


def change_lines(changes: Collection[Change], width: int, *, verbose: bool = False) -> Iterator[str]:
    """The changes, a line each. The many functions are counted."""
    for title, members in groupby(sorted(changes, key=_rank), key=_group):
        yield ""
        yield bold(title)
        if title == "Functions":
            yield from _function_lines(list(members), width, verbose=verbose)
        else:
            yield from _rows(list(members), width)
    shown = {change.kind for change in changes}
    if len(shown) > 1:
        yield ""
        legend = (f"{sign} {faint(kind)}" for kind, sign in _SYMBOLS.items() if kind in shown)
        yield f"  {'   '.join(legend)}"


_GROUPS = {"function": "Functions", "trigger": "Triggers", "triggers": "Triggers"}
_ORDER = ("Tables and privileges", "Functions", "Triggers")


def _group(change: Change) -> str:
    return _GROUPS.get(change.subject.split(" ")[0], _ORDER[0])


def _rank(change: Change) -> int:
    return _ORDER.index(_group(change))


def _rows(members: list[Change], width: int) -> Iterator[str]:
    """In columns. A reason that does not fit into the line is printed below it."""
    rows = [(f"{_SYMBOLS[each.kind]} {plain(each.subject)}", plain(each.reason)) for each in members]
    room = width - max(len(click.unstyle(head)) for head, _ in rows) - 4
    fits = [(head, faint(reason) if len(reason) <= room else "") for head, reason in rows]
    for line, (_, reason) in zip(align(fits, indent="  "), rows, strict=True):
        yield line
        if len(reason) > room:
            yield from map(faint, wrap(reason, width, first="      "))


def _function_lines(functions: list[Change], width: int, *, verbose: bool) -> Iterator[str]:
    ordered = sorted(functions, key=lambda each: (each.kind, each.reason))
    for (kind, reason), members in groupby(ordered, key=lambda each: (each.kind, each.reason)):
        names = [_function_name(each) for each in members]
        yield f"  {_SYMBOLS[kind]} {count(len(names), 'function')}  {faint(reason)}".rstrip()
        if verbose:
            yield from map(faint, wrap(", ".join(names), width, first="      "))


def _function_name(change: Change) -> str:
    return plain(change.subject.removeprefix("function ")).removeprefix("usersync.").partition("(")[0]
