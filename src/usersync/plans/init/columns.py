"""What is proposed for each column of a users table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.errors import SettingsError
from usersync.mapping import SOURCE_TYPES, check_name, parse_column
from usersync.plans.init.sources import (
    UNFIT,
    WHOLE,
    Found,
    find_sources,
    is_required,
    name_of_type,
    type_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.plans.init.sources import Evidence


@dataclass(frozen=True)
class Proposed:
    """What is proposed for one column. ``entry`` is as in ``[columns]``, None if it is left out."""

    name: str
    entry: Mapping[str, Any] | None
    #: In words: where this comes from.
    why: str
    #: What only a person can decide, or None.
    decide: str | None = None
    #: An entry that is written as a comment, for the person to finish.
    suggestion: Mapping[str, Any] | None = None

    @property
    def is_left_out(self) -> bool:
        """Whether it is not mapped, and nobody has to think about that."""
        return self.entry is None and self.decide is None


#: Filled when a row is made and the application's from there on: its own deletions would be undone otherwise.
_OWN_TIMES = {"created_at", "deleted_at"}


def left_out(proposed: Iterable[Proposed]) -> Mapping[str, tuple[str, ...]]:
    """The columns that are left out, with nothing to decide, by the reason."""
    reasons: dict[str, tuple[str, ...]] = {}
    for each in proposed:
        if each.is_left_out:
            reasons[each.why] = (*reasons.get(each.why, ()), each.name)
    return reasons


def propose_columns(about: Mapping[str, Any], key: str, evidence: Evidence) -> tuple[Proposed, ...]:
    """A proposal for each column but the key, in the table's order."""
    return tuple(_propose(column, evidence) for column in about["columns"] if column["name"] != key)


def _propose(column: Mapping[str, Any], evidence: Evidence) -> Proposed:
    name = column["name"]
    try:
        check_name(name, name)
    except SettingsError as error:
        return Proposed(name, None, str(error), decide=str(error) if is_required(column) else None)
    if column["by_itself"]:
        return Proposed(name, None, f"it is {column['by_itself']}, which the database fills")
    found = find_sources(column, evidence)
    if not found.sources or (wanted := type_for(column, found.sources)) is UNFIT:
        return _left_out(column, found)
    entry: dict[str, Any] = {"from": list(found.sources)}
    if wanted:
        entry["type"] = wanted
    default = (
        constant(column["default"]) if found.default is None and column["refuses_null"] else found.default
    )
    if default is not None:
        entry["default"] = default
    if name not in evidence.followed and not _follows(found.sources):
        entry["owner"] = "app"
    return _readable(column, _guarded(column, entry, found.why))


def _readable(column: Mapping[str, Any], proposed: Proposed) -> Proposed:
    """The proposal, unless the settings do not support it."""
    try:
        parse_column(proposed.name, proposed.entry)
    except SettingsError as error:
        why = str(error).partition(": ")[2]
        return Proposed(proposed.name, None, why, decide=why if is_required(column) else None)
    return proposed


def _follows(sources: tuple[str, ...]) -> bool:
    return all(source in {*SOURCE_TYPES, *WHOLE} - _OWN_TIMES for source in sources)


def constant(default: str | None) -> Any:
    """The value of a column's default where that is a constant; else None."""
    if default in {"true", "false"}:
        return default == "true"
    number = re.fullmatch(r"-?\d{1,15}", default or "")
    if number:
        return int(number[0])
    text = re.fullmatch(r"'((?:[^']|'')*)'(?:::[^']*)?", default or "")
    return text[1].replace("''", "'") if text and "$" not in text[1] else None


def _guarded(column: Mapping[str, Any], entry: dict[str, Any], why: str) -> Proposed:
    """What keeps a row from being refused: a default, and what becomes of a value that is taken."""
    name, sources, decide = column["name"], entry["from"], None
    is_text = column["category"] == "S" and not column["is_array"]
    by_user = all(source.startswith("user_metadata.") for source in sources)
    if column["is_unique"] and is_text and by_user and entry.get("owner") == "app":
        entry["on_conflict"] = "suffix"
        if is_required(column):
            entry.setdefault("default", "user")
    elif column["is_unique"] and not column["refuses_null"]:
        entry["on_conflict"] = "null"
    elif column["is_unique"]:
        why += "; unique, so who brings one that is taken gets no row"
    if is_required(column) and "default" not in entry:
        if is_text and by_user:
            entry["default"] = ""
            why += "; refuses null, so who has none gets an empty text"
        elif "email" in sources:
            why += "; refuses null, so who signs up anonymously or by phone gets no row"
        elif not _follows(tuple(sources)) and sources != ["created_at"]:
            decide = (
                "refuses null: who has none gets no row, though their sign-up succeeds and the ledger names "
                "them. Give it a default, or let it be null"
            )
    ordered = {option: entry[option] for option in _ORDER if option in entry}
    return Proposed(name, ordered, why, decide)


_ORDER = ("from", "type", "default", "owner", "on_conflict")


def _left_out(column: Mapping[str, Any], found: Found) -> Proposed:
    name, why = column["name"], found.why
    if found.sources:
        why = f"{', '.join(found.sources)} does not fit into {column['type']}"
    if not is_required(column):
        return Proposed(name, None, why, decide=f"{why}; usersync does not" if found.is_hole else None)
    suggestion: dict[str, Any] = {"from": f"app_metadata.{name}"}
    wanted = name_of_type(column)
    if wanted != UNFIT and column["category"] != "S":
        suggestion["type"] = wanted
    if column["labels"]:
        suggestion["default"] = column["labels"][0]
    suggestion["owner"] = "app"
    refers = f", and refers to {column['refers_to']}" if column["refers_to"] else ""
    return Proposed(
        name,
        None,
        why,
        decide=f"refuses null and has no default{refers}, so no user can get a row until it is filled: "
        f"{why}. Map it, give it a default in the table, or let it be null",
        suggestion=suggestion,
    )
