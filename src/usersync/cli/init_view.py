"""The output of ``usersync init``: what it found, and what it proposes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usersync.cli.plan_view import finding_lines
from usersync.cli.text import align, bad, bold, clip, count, faint, good, number, plain, typed, warning, wrap
from usersync.cli.trial_view import today_lines
from usersync.core.foreign_keys import ON_DELETE
from usersync.schema.init.columns import asked_subjects, is_mirrored, left_out
from usersync.schema.init.settings_file import entry, tables_question
from usersync.schema.init.table_choice import shown
from usersync.schema.init.toml import toml
from usersync.schema.init.trial_evidence import faults
from usersync.schema.network_calls import network_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from usersync.config.mapping import TableName
    from usersync.schema.init import Proposal, Tables
    from usersync.schema.init.columns import Proposed
    from usersync.schema.init.question import Question

_NAME_WIDTH, _SOURCE_WIDTH = 24, 50
_MOST_REFERRERS = 30


@dataclass(frozen=True)
class InitView:
    """The explanation, the path of the file, and the next command."""

    proposal: Proposal
    text: str
    target: str
    others: tuple[TableName, ...] = ()
    #: Where the file was written, or None.
    path: Path | None = None
    #: Another settings file, which the new file replaces.
    shadowed: str | None = None

    @property
    def exit_code(self) -> int:
        return 1 if self.proposal.is_open else 0

    def lines(self, width: int) -> Iterator[str]:
        yield from self.explanation(width)
        yield from self.conclusion()

    def explanation(self, width: int) -> Iterator[str]:
        proposal = self.proposal
        yield from align([("Database", bold(self.target)), *self._head()])
        if proposal.trial and (today := list(today_lines(proposal.trial, width))):
            yield from ("", *today[: -1 if not today[-1] else None])
        yield from _section("Columns", self._columns(width))
        yield from _section(f"On {proposal.settings.source_table}", self._auth_triggers(width))
        yield from _section(f"Triggers on {proposal.settings.users_table}", self._triggers(width))
        yield from _section("Foreign keys to users", self._referrers())
        yield from _section("Notes", self._notes(width))
        yield from _section("Decisions", self._decisions(width))
        yield ""

    def _head(self) -> Iterator[tuple[str, str]]:
        proposal, table = self.proposal, self.proposal.settings.users_table
        if proposal.about is None:
            yield "Users", f"{bold(str(table))}  {faint('does not exist yet: usersync creates it')}"
        else:
            rows = f"about {count(proposal.about['rows'], 'row')}" if proposal.about["rows"] else ""
            yield "Users", f"{bold(str(table))}  {faint(rows)}".rstrip()
            yield "Key", f"{plain(proposal.settings.key)}  {faint(self._reference())}".rstrip()
        if self.others:
            how = faint("may hold the users instead: usersync init --table NAME")
            yield "Also", f"{', '.join(map(str, self.others))}  {how}"

    def _reference(self) -> str:
        key = self.proposal.key
        if key is None or key.on_delete is None:
            return ""
        return f"refers to {self.proposal.settings.source_table}, on delete {ON_DELETE[key.on_delete]}"

    def _columns(self, width: int) -> Iterator[str]:
        shown = [each for each in self.proposal.columns if not each.is_left_out]
        rows = [(clip(each.name, _NAME_WIDTH), _mark(each), *_source(each)) for each in shown]
        for line, each in zip(align(rows, indent="  ") if rows else (), shown, strict=True):
            yield line
            if each.why:
                yield from map(faint, wrap(plain(each.why), width, first="      "))
        for why, names in left_out(self.proposal.columns).items():
            yield from wrap(plain(", ".join(names)), width, first=faint("  left out: "))
            yield from map(faint, wrap(plain(why), width, first="      "))

    def _auth_triggers(self, width: int) -> Iterator[str]:
        for each in self.proposal.third_party_triggers:
            if each.is_replaceable:
                what = f"{good('copies a row')}: usersync apply --adopt replaces it"
            else:
                what = (
                    f"{warning('stays')}: it {', '.join(each.other_effects or (str(each.not_restorable),))}"
                )
            yield f"  {plain(each.name)}  {faint(plain(each.function))}"
            yield from wrap(what, width, first="      ")

    def _triggers(self, width: int) -> Iterator[str]:
        for row in self.proposal.triggers:
            yield f"  {plain(row['name'])}  {faint(plain(row['function']))}"
            if row["names"]:
                found = f"finds {', '.join(row['names'])} by the caller's search path"
                alter = f"alter function {row['function']} set search_path = {row['search_path']};"
                fix = (
                    "usersync apply --adopt sets the function's own search path"
                    if row["is_ours"]
                    else f"its owner must run: {alter}"
                )
                yield from wrap(f"{warning(found)}: {fix}", width, first="      ")
            if used := network_use(row):
                yield from wrap(warning(used), width, first="      ")

    def _referrers(self) -> Iterator[str]:
        referrers = self.proposal.about["referrers"] if self.proposal.about else []
        rows = [
            (
                f"{plain(each['table'])} ({plain(', '.join(each['columns']))})",
                "" if each["to"] == "users" else str(self.proposal.settings.source_table),
                f"on delete {ON_DELETE[each['on_delete']]}",
            )
            for each in referrers[:_MOST_REFERRERS]
        ]
        if rows:
            yield from align(rows, indent="  ")
        if len(referrers) > _MOST_REFERRERS:
            yield faint(f"  and {number(len(referrers) - _MOST_REFERRERS)} more")

    def _notes(self, width: int) -> Iterator[str]:
        proposal = self.proposal
        remarks = [
            f"{name} = {_short(proposal.data[name])}: {remark}" for name, remark in proposal.remarks.items()
        ]
        for text in (*remarks, *proposal.notes):
            yield from wrap(plain(text), width, first=warning("  ! "))
        # Other triggers are printed above, and decisions below.
        printed = asked_subjects(proposal.columns, proposal.settings)
        notes = (each for each in proposal.findings if each.code != "D005" and each.subject not in printed)
        yield from _without_blanks(finding_lines((each for each in notes if each.level != "error"), width))
        if self.shadowed:
            yield from wrap(
                f"the settings in {self.shadowed} are no longer read", width, first=warning("  ! ")
            )

    def _decisions(self, width: int) -> Iterator[str]:
        for each in self.proposal.columns:
            if each.decide:
                yield from wrap(plain(f"{each.name}: {each.decide}."), width, first=bad("  ? "))
        for question in (*map(str, self.proposal.asked), *self.proposal.questions):
            yield from wrap(plain(question), width, first=bad("  ? "))
        yield from _without_blanks(
            finding_lines((each for each in self.proposal.findings if each.level == "error"), width)
        )

    def conclusion(self) -> Iterator[str]:
        if self.path:
            yield f"{good('Written:')} {self.path}"
        decide = "answer the lines with DECIDE in the file, then  " if self.proposal.is_open else ""
        adopt = " --adopt" if self.proposal.needs_adoption else ""
        yield f"Next:  {decide}{typed(f'usersync plan{adopt}')}"

    def data(self) -> dict[str, Any]:
        proposal = self.proposal
        return {
            "database": self.target,
            "written": self.path,
            "toml": self.text,
            "settings": proposal.data,
            "other_tables": [str(table) for table in self.others],
            "columns": [asdict(each) for each in proposal.columns],
            "triggers_on_auth_users": [
                {
                    "name": each.name,
                    "function": each.function,
                    "copies": each.is_replaceable,
                    "beyond": each.other_effects,
                }
                for each in proposal.third_party_triggers
            ],
            "triggers_on_users": [
                {
                    "name": row["name"],
                    "function": row["function"],
                    "relies_on_search_path_for": row["names"],
                    "network": network_use(row),
                }
                for row in proposal.triggers
            ],
            "referrers": proposal.about["referrers"] if proposal.about else [],
            "findings": [asdict(finding) for finding in proposal.findings],
            "notes": proposal.notes,
            "decisions": [
                *(f"{each.name}: {each.decide}" for each in proposal.columns if each.decide),
                *map(str, proposal.asked),
                *proposal.questions,
                *proposal.decisions,
            ],
            "needs_adoption": proposal.needs_adoption,
            "fails_today": [
                {"flows": flows, "fault": fault} for fault, flows in faults(proposal.trial).items()
            ],
        }


def _short(value: Any) -> str:
    """A setting's value as the file has it. A name is printed without quotes."""
    return value if isinstance(value, str) else toml(value)


def _without_blanks(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    if body:
        yield ""
        yield bold(plain(title))
        yield from body


def _mark(column: Proposed) -> str:
    if column.decide:
        return bad("?")
    return good("←")


def _source(column: Proposed) -> tuple[str, str]:
    if column.entry is None:
        return faint("left out"), ""
    options = [f"{name} {value!r}" for name, value in column.entry.items() if name not in {"from", "owner"}]
    owner = [] if is_mirrored(column) else ["app-owned"]
    if "from" not in column.entry:
        return clip(entry(column.entry), _SOURCE_WIDTH), faint(", ".join(owner))
    return clip(", ".join(column.entry["from"]), _SOURCE_WIDTH), faint(", ".join([*options, *owner]))


@dataclass(frozen=True)
class QuestionView:
    """The open question which table contains the users, if the command cannot ask."""

    tables: Tables
    source: TableName
    text: str
    target: str
    path: Path | None = None
    exit_code: int = 1

    def lines(self, width: int) -> Iterator[str]:
        yield from align([("Database", bold(self.target))])
        yield ""
        yield from choice_lines(self.tables, self.source, width)
        yield ""
        if self.path:
            yield f"{good('Written:')} {self.path}, with this question"
        yield f"Next:  {typed('usersync init --force --table NAME')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "written": self.path,
            "toml": self.text,
            "question": tables_question(self.tables, self.source),
            "candidates": [
                {
                    "table": str(each.table),
                    "key": each.key.name,
                    "evidence": sorted(each.evidence),
                    "mapped": each.mapped,
                    "about": shown(each),
                }
                for each in self.tables.choices
            ],
            "new_table": str(self.tables.new) if self.tables.new else None,
        }


def choice_lines(tables: Tables, source: TableName, width: int) -> Iterator[str]:
    """The numbered tables to choose from, each with its evidence."""
    yield from wrap(plain(tables_question(tables, source)), width)
    for turn, each in enumerate(tables.choices, 1):
        head = f"  {turn}.  {bold(str(each.table))}  {faint(f'key {each.key.name}')}"
        yield f"{head}  {faint(_about(each.candidate.referrers))}".rstrip()
        yield from map(faint, wrap(plain(shown(each)), width, first="      "))
    if tables.new:
        yield f"  {len(tables.choices) + 1}.  {bold(str(tables.new))}  {faint('a new table')}"


def question_lines(question: Question, width: int) -> Iterator[str]:
    """A question and its numbered answers."""
    yield from wrap(plain(question.text), width)
    for turn, each in enumerate(question.answers, 1):
        yield f"  {turn}.  {plain(each.text)}"


def _about(referrers: int) -> str:
    return f"{count(referrers, 'foreign key')} to it" if referrers else ""
