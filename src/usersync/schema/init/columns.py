"""The proposal for each column of a users table."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import SOURCE_TYPES, check_name, looks_like_a_privilege, parse_column, quote
from usersync.errors import SettingsError
from usersync.schema.effects import is_table_default, writes_null
from usersync.schema.init.sources import (
    UNFIT,
    WHOLE,
    Found,
    find_sources,
    is_required,
    name_of_type,
    type_for,
    usual,
)
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.config.settings import Settings
    from usersync.schema.init.sources import Evidence
    from usersync.schema.trigger_parser import Value


@dataclass(frozen=True)
class Proposed:
    """The proposal for one column. ``entry`` is as in ``[columns]``; None if the column is left out."""

    name: str
    entry: Mapping[str, Any] | None
    #: The reason, in words.
    why: str
    #: What only a person can decide, or None.
    decide: str | None = None
    #: An entry that is written as a comment, for a person to complete.
    suggestion: Mapping[str, Any] | None = None

    @property
    def is_left_out(self) -> bool:
        """Whether the column is not mapped, with nothing to decide."""
        return self.entry is None and self.decide is None


_FILLED_BY_TABLE = "a trigger of the table fills it"

#: Filled only when a row is created. Otherwise usersync would undo the application's deletions.
_OWN_TIMES = {"created_at", "deleted_at"}


def left_out(proposed: Iterable[Proposed]) -> Mapping[str, tuple[str, ...]]:
    """The columns that are left out with nothing to decide, by reason."""
    reasons: dict[str, tuple[str, ...]] = {}
    for each in proposed:
        if each.is_left_out:
            reasons[each.why] = (*reasons.get(each.why, ()), each.name)
    return reasons


def propose_columns(about: Mapping[str, Any], key: str, evidence: Evidence) -> tuple[Proposed, ...]:
    """A proposal for each column but the key, in the table's order."""
    return tuple(_propose(column, evidence) for column in about["columns"] if column["name"] != key)


def required(proposed: Iterable[Proposed], about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The columns that require a value, and for which no source is known."""
    open_ones = {each.name for each in proposed if each.entry is None and each.decide}
    return [each for each in about["columns"] if each["name"] in open_ones and is_required(each)]


def relieved(proposed: Proposed) -> Proposed:
    """The proposal without a question: the application creates the rows, and fills the column."""
    if proposed.entry is not None or not proposed.decide:
        return proposed
    return Proposed(proposed.name, None, "your application fills it when it creates the row")


def changed_by_trigger(proposed: Proposed, changed: frozenset[str]) -> Proposed:
    """The proposal with owner = "app" if a trigger of the table changes the written value."""
    if proposed.name not in changed or proposed.entry is None:
        return proposed
    why = f"{proposed.why}; a trigger of the table changes the written value, so usersync fills it once"
    return replace(proposed, entry={**proposed.entry, "owner": "app"}, why=why)


def updated_elsewhere(proposed: Proposed, updated: Mapping[str, tuple[str, ...]]) -> Proposed:
    """The proposal with owner = "app" if a function of the application updates the column."""
    functions, entry = updated.get(proposed.name), proposed.entry
    if not functions or not entry or "from" not in entry or entry.get("owner") == "app":
        return proposed
    why = f"{proposed.why}; {functions[0]} updates it, so usersync fills it once"
    return replace(proposed, entry={**entry, "owner": "app"}, why=why)


def asked_subjects(columns: Iterable[Proposed], settings: Settings) -> frozenset[str]:
    """The subjects of findings about columns that have a question of their own."""
    return frozenset(f"column {settings.users_table}.{each.name}" for each in columns if each.decide)


def is_mirrored(proposed: Proposed) -> bool:
    """Whether usersync would keep the column equal to its source."""
    entry = proposed.entry
    return entry is not None and entry.get("owner", "auth" if "from" in entry else "app") == "auth"


def left_to_application(proposed: Proposed, reason: str | None) -> Proposed:
    """The proposal with owner = "app" if there is a ``reason`` to keep the application's values."""
    if reason is None or not is_mirrored(proposed):
        return proposed
    entry = {**(proposed.entry or {}), "owner": "app"}
    return replace(proposed, entry=entry, why=f"{proposed.why}; {reason}")


def _propose(column: Mapping[str, Any], evidence: Evidence) -> Proposed:
    name = column["name"]
    try:
        check_name(name, name)
    except SettingsError as error:
        return Proposed(name, None, str(error), decide=str(error) if is_required(column) else None)
    if column["by_itself"]:
        return Proposed(name, None, f"it is {column['by_itself']}, which the database fills")
    if evidence.trigger_function:
        return _as_filled(column, evidence)
    if verified := _verified(column, evidence):
        return verified
    return _as_found(column, find_sources(column, evidence), evidence)


#: Flags that say whether an address is verified, and the auth server's time of it. They grant nothing.
_VERIFIED = {"email_verified": "email_confirmed_at", "phone_verified": "phone_confirmed_at"}


def _verified(column: Mapping[str, Any], evidence: Evidence) -> Proposed | None:
    """The proposal for a flag that says whether an address is verified."""
    source = _VERIFIED.get(usual(column["name"]))
    if source not in evidence.source_columns or column["type"] != "boolean":
        return None
    entry = {"expression": f"{source} is not null", "type": "boolean", "owner": "auth"}
    return Proposed(column["name"], entry, "by its name")


def _as_found(column: Mapping[str, Any], found: Found, evidence: Evidence) -> Proposed:
    """The proposal for a source that the column's name, its comment, the users' data or a trigger suggest."""
    wanted = type_for(column, found.sources) if found.sources else None
    if not found.sources or wanted is UNFIT:
        return _left_out(column, found)
    entry: dict[str, Any] = {"from": list(found.sources)}
    if wanted:
        entry["type"] = wanted
    default = (
        constant(column["default"]) if found.default is None and column["refuses_null"] else found.default
    )
    if default is not None:
        entry["default"] = default
    follows = column["name"] in evidence.followed if evidence.trigger_function else _follows(found.sources)
    if not follows:
        entry["owner"] = "app"
    return _readable(column, _guarded(column, entry, found.why))


def _as_filled(column: Mapping[str, Any], evidence: Evidence) -> Proposed:
    """The proposal to fill the column as the hand-written trigger does, or not at all."""
    name, function = column["name"], evidence.trigger_function
    if name not in evidence.written:
        return _not_filled(column, evidence)
    value, why = evidence.written[name], f"as {function} fills it"
    if value is None:
        return _computed_otherwise(column, evidence)
    decides = looks_like_a_privilege(name) and usual(name) not in _VERIFIED
    if decides and (hole := _written_by_users(value)):
        taken = f"{function} takes it from {hole}, which every user can change"
        return _left_out(column, Found((), taken, is_hole=True))
    if value.sources:
        found = _as_found(column, Found(value.sources, why, value.default), evidence)
        return _seen_only(_with_its_null(found, column, value), value, evidence)
    if is_table_default(value, column):
        return Proposed(name, None, "the table's default is the value that the trigger writes")
    return _readable(column, _guarded(column, _computed(column, value, evidence), why))


def _with_its_null(proposed: Proposed, column: Mapping[str, Any], value: Value) -> Proposed:
    """The proposal with absent = "null" if the trigger writes null, not the DEFAULT, for a missing value."""
    if proposed.entry is None or not writes_null(value, column):
        return proposed
    return replace(proposed, entry={**proposed.entry, "absent": "null"})


def _seen_only(proposed: Proposed, value: Value, evidence: Evidence) -> Proposed:
    """The proposal with a decision if the value is only known from a trial, whose users had all the keys."""
    has_keys = any("metadata" in source for source in value.sources)
    if proposed.name not in evidence.unread or not has_keys or proposed.entry is None:
        return proposed
    decide = (
        f"{evidence.trigger_function} chooses the value in a way that usersync cannot read. This is what "
        f"users with {', '.join(value.sources)} got in the trial; from usersync, users without may get "
        "another value than from the trigger"
    )
    return replace(proposed, why=f"as seen in the trial of {evidence.trigger_function}", decide=decide)


def _computed_otherwise(column: Mapping[str, Any], evidence: Evidence) -> Proposed:
    """The proposal for a value that no source and no expression can give."""
    if column["name"] in evidence.filled_by_table:
        return Proposed(column["name"], None, _FILLED_BY_TABLE)
    why = f"{evidence.trigger_function} computes it in a way that usersync cannot reproduce"
    return Proposed(column["name"], None, why, decide=why if is_required(column) else None)


def _computed(column: Mapping[str, Any], value: Value, evidence: Evidence) -> dict[str, Any]:
    """A constant or an expression as an entry."""
    if not value.expression and not value.is_now and value.default is not None:
        return {"value": value.default}
    entry = {"expression": value.expression or ("now()" if value.is_now else "null")}
    if value.expression and column["category"] != "S" and (wanted := name_of_type(column)) != UNFIT:
        entry["type"] = wanted
    if column["name"] in evidence.followed:
        entry["owner"] = "auth"
    return entry


def _written_by_users(value: Value) -> str:
    """The part of the value that every user can change, in words; empty if none."""
    found = [each for each in value.sources if each.startswith("user_metadata")]
    return ", ".join(found) or ("user_metadata" if "raw_user_meta_data" in (value.expression or "") else "")


def _not_filled(column: Mapping[str, Any], evidence: Evidence) -> Proposed:
    """The proposal for a column that the hand-written trigger does not fill."""
    name = column["name"]
    if name == evidence.tombstone:
        return _as_found(column, Found(("deleted_at",), "set when the user is deleted"), evidence)
    found = find_sources(column, evidence)
    if is_required(column) and name not in evidence.filled_by_table:
        return _left_out(column, Found((), f"{evidence.trigger_function} does not fill it"))
    suggestion = _as_found(column, found, evidence).entry if found.sources else None
    why = f"{evidence.trigger_function} does not fill it"
    if name in evidence.filled_by_table:
        return Proposed(name, None, _FILLED_BY_TABLE)
    return Proposed(name, None, why, suggestion=suggestion)


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
    """The value of a column's default if it is a constant; else None."""
    if default in {"true", "false"}:
        return default == "true"
    number = re.fullmatch(r"-?\d{1,15}", default or "")
    if number:
        return int(number[0])
    text = re.fullmatch(r"'((?:[^']|'')*)'(?:::[^']*)?", default or "")
    return text[1].replace("''", "'") if text and "$" not in text[1] else None


def _guarded(column: Mapping[str, Any], entry: dict[str, Any], why: str) -> Proposed:
    """The proposal with what prevents an error: a default, and a policy for duplicate values."""
    name, sources, decide = column["name"], entry.get("from", []), None
    is_text = column["category"] == "S" and not column["is_array"]
    by_user = all(source.startswith("user_metadata.") for source in sources)
    is_filled_once = entry.get("owner", "auth" if sources else "app") == "app"
    if column["is_unique"] and is_text and by_user and is_filled_once:
        entry["on_conflict"] = "suffix"
        if is_required(column) and sources:
            entry.setdefault("default", "user")
    elif column["is_unique"] and not column["refuses_null"]:
        entry["on_conflict"] = "null"
    if is_required(column) and sources and "default" not in entry:
        if is_text and by_user:
            entry["default"] = ""
            why += "; NOT NULL: a user without a value gets an empty text"
        elif "email" not in sources and not _follows(tuple(sources)) and sources != ["created_at"]:
            decide = (
                "NOT NULL: a user without a value gets no row. The sign-up succeeds, and the failure is "
                "recorded. Give it a default, or drop NOT NULL"
            )
    why += _who_gets_no_row(column, entry)
    if usual(name) in _VERIFIED and any(source.startswith("user_metadata") for source in sources):
        entry["trusted"] = True  # The auth server writes this key, and the hand-written trigger uses it.
    ordered = {option: entry[option] for option in _ORDER if option in entry}
    return Proposed(name, ordered, why, decide)


def _who_gets_no_row(column: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """A remark about the users for whom the table refuses the row."""
    lacks_email = is_required(column) and "email" in entry.get("from", []) and "default" not in entry
    if column["is_unique"] and "on_conflict" not in entry:
        who = "duplicate e-mail, or with none (anonymous, phone)," if lacks_email else "duplicate value"
        return f"; UNIQUE and NOT NULL: a user with a {who} gets no row"
    return "; NOT NULL: a user without an e-mail (anonymous, phone) gets no row" if lacks_email else ""


def advised_default(column: Mapping[str, Any]) -> str:
    """A suggested DEFAULT for a column, as SQL; "…" if a person has to choose it."""
    if column["is_array"]:
        return "'{}'"
    if column["labels"]:
        return literal(column["labels"][0])
    return _USUAL_DEFAULTS.get(column["type"], "…")


_USUAL_DEFAULTS = {
    "uuid": "gen_random_uuid()",
    "boolean": "false",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "now()",
    "json": "'{}'",
    "jsonb": "'{}'",
}

_ORDER = ("from", "value", "expression", "type", "default", "owner", "on_conflict", "trusted")


def _left_out(column: Mapping[str, Any], found: Found) -> Proposed:
    name, why = column["name"], found.why
    if found.sources:
        why = f"{', '.join(found.sources)} does not fit into {column['type']}"
    if not is_required(column):
        return Proposed(name, None, why, decide=f"{why}; usersync does not" if found.is_hole else None)
    refers = f", and refers to {column['refers_to']}" if column["refers_to"] else ""
    # A primary key column is NOT NULL, and users must not be able to choose its value.
    is_key = column["in_primary_key"]
    alter = f"alter column {quote(name)} set default {advised_default(column)}"
    return Proposed(
        name,
        None,
        why,
        decide=f"NOT NULL and without a default{refers}: no user can get a row until it is filled "
        f"({why}). Give it a default in the table ({alter})"
        + ("" if is_key else ", or map it, or drop NOT NULL"),
        suggestion=None if is_key else _from_app_metadata(column),
    )


def _from_app_metadata(column: Mapping[str, Any]) -> Mapping[str, Any]:
    suggestion: dict[str, Any] = {"from": f"app_metadata.{column['name']}"}
    wanted = name_of_type(column)
    if wanted != UNFIT and column["category"] != "S":
        suggestion["type"] = wanted
    if column["labels"]:
        suggestion["default"] = column["labels"][0]
    return {**suggestion, "owner": "app"}
