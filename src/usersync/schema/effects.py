"""Which effects of a hand-written trigger usersync reproduces with given settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usersync.schema.trigger_parser import ALWAYS, Condition, Value, parse_function, read_when
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usersync.config.mapping import Column
    from usersync.config.settings import Settings
    from usersync.schema.trigger_parser import ParsedFunction, Write

# Bits of pg_trigger.tgtype.
ROW, BEFORE, INSERT, DELETE, UPDATE = 1, 2, 4, 8, 16

_VERBS = {"insert": "inserts into", "update": "updates", "delete": "deletes from"}


def events(trigger: Mapping[str, Any]) -> frozenset[str]:
    """The operations that a trigger fires on."""
    bits = {"INSERT": INSERT, "UPDATE": UPDATE, "DELETE": DELETE}
    return frozenset(name for name, bit in bits.items() if trigger["type"] & bit)


def effects(trigger: Mapping[str, Any], parsed: ParsedFunction) -> tuple[Write, ...]:
    """What the trigger writes, each with the operations on which it writes it."""
    when = read_when(trigger["definition"]) or ALWAYS
    fires = when & Condition(events(trigger))
    found = []
    for write in parsed.writes:
        condition = write.condition & fires
        if condition.operations:
            found.append(write.under(condition))
    return tuple(found)


def unreproduced_effects(
    trigger: Mapping[str, Any], parsed: ParsedFunction, settings: Settings, catalog: Mapping[str, Any]
) -> Iterator[str]:
    """The effects of the trigger that usersync would not reproduce, in words."""
    for each in parsed.other_effects:
        # For another table, it does not matter how the trigger writes.
        is_own = f" {settings.users_table} " in each
        yield each if is_own else each.removesuffix(" in a way that usersync cannot read")
    if trigger["type"] & BEFORE and parsed.sets:
        yield f"changes {_and(parsed.sets)} of the user before it is stored"
    if read_when(trigger["definition"]) is None:
        yield "fires only under a condition that usersync does not know"
    written = effects(trigger, parsed)
    for write in written:
        if write.table != settings.users_table:
            yield f"{_VERBS[write.kind]} {write.table}"
        else:
            yield from _write(write, settings, catalog)
    if not written and not parsed.other_effects and not parsed.sets:
        yield "copies nothing"


def _write(write: Write, settings: Settings, catalog: Mapping[str, Any]) -> Iterator[str]:
    for who in sorted(write.condition.only - _skipped(settings)):
        yield f"{_VERBS[write.kind]} {write.table} only for {who} users"
    if write.kind == "insert":
        yield from _insert(write, settings, catalog)
    elif write.where != settings.key:
        yield f"finds rows by {write.where}, which is not the key"
    elif write.kind == "delete":
        if settings.on_delete != "delete" or write.condition.operations != {"DELETE"}:
            yield "deletes the row, which on_delete does not"
    elif "DELETE" in write.condition.operations:
        yield from _deletion(write, settings)
    else:
        yield from _followed(write.values, settings, catalog)


def _skipped(settings: Settings) -> frozenset[str]:
    """Users who get a row although the settings skip others: ``confirmed``, ``permanent``."""
    names = {"unconfirmed": "confirmed", "anonymous": "permanent"}
    return frozenset(names[each] for each in settings.skip if each in names)


def _insert(write: Write, settings: Settings, catalog: Mapping[str, Any]) -> Iterator[str]:
    if write.values.get(settings.key) != Value(("id",)):
        yield f"does not write the user's id into {settings.key}"
    if write.conflict not in {(), (settings.key,)}:
        does = "takes over the row of another user" if write.updated else "creates no row"
        yield f"{does} that has the same {_and(write.conflict)}"
    for name, value in write.values.items():
        if name != settings.key:
            yield from _filled(name, value, settings, catalog)
    if "UPDATE" in write.condition.operations and not write.condition.only:
        if not write.updated and not write.fails_on_conflict:
            return
        yield from _followed(write.updated, settings, catalog)


def _filled(name: str, value: Value | None, settings: Settings, catalog: Mapping[str, Any]) -> Iterator[str]:
    """The value of this column in a new row, in words, if usersync would write another value."""
    about = catalog["users_columns"].get(name)
    written = (*settings.users_where, *settings.columns)
    column = next((each for each in written if each.name == name), None)
    if value is None:
        if column is None or not column.is_computed:
            yield f"computes {name}"
    elif column is None:
        if not is_table_default(value, about):
            yield f"fills {name}, which is not mapped"
    elif not _is_same(value, column, about):
        yield f"fills {name} from another source than the settings"
    elif column.takes_table_default and about and writes_null(value, about):
        yield f"writes null into {name} if the user has no value (absent = 'null' in the settings)"


def _followed(
    values: Mapping[str, Value | None], settings: Settings, catalog: Mapping[str, Any]
) -> Iterator[str]:
    """What a change of the user writes into the row, in words, if usersync would not write it."""
    touched = set_by_triggers(catalog["users_triggers"], UPDATE)
    for name, value in values.items():
        column = next((each for each in settings.columns if each.name == name), None)
        if name == settings.key and value == Value(("id",)):
            continue
        if value is not None and value.is_now and name in touched:
            continue
        about = catalog["users_columns"].get(name)
        # usersync writes a time, and a value of an app-owned column, into a new row only.
        if value is None or value.is_now or column is None or not _is_same(value, column, about):
            yield f"sets {name} when the user changes"
        elif column.owner != "auth":
            yield (
                f"keeps {name} equal to the auth server's, and the settings do not"
                if value.sources or value.expression
                else f"sets {name} when the user changes"
            )


def set_by_triggers(triggers: Iterable[Mapping[str, Any]], event: int) -> frozenset[str]:
    """Columns that a BEFORE trigger of the users table sets on this event."""
    found = set[str]()
    for trigger in triggers:
        if trigger["type"] & BEFORE and trigger["type"] & event and trigger["enabled"] != "D":
            found |= {*parse_function(trigger["body"], trigger["language"]).sets}
    return frozenset(found)


def _deletion(write: Write, settings: Settings) -> Iterator[str]:
    tombstone = settings.tombstone.name if settings.tombstone else None
    sets = {name for name, value in write.values.items() if value is not None and value.is_now}
    if settings.on_delete != "soft" or sets != {tombstone} or len(write.values) != 1:
        yield f"sets {_and(tuple(write.values))} when the user is deleted, which on_delete does not"


def _is_same(value: Value, column: Column, about: Mapping[str, Any] | None) -> bool:
    if value.is_now:
        return (column.expression or "").replace(" ", "") == "now()" or [*map(str, column.sources)] == [
            "created_at"
        ]
    if column.is_computed:
        return not value.sources and (
            value.expression == column.expression
            if value.expression or column.expression
            else value.default == column.value
        )
    # A NOT NULL column refuses the trigger's null too: a default is for users whose sign-up fails today.
    refuses_null = bool(about and about["refuses_null"])
    defaults = value.default == column.default or (value.default is None and refuses_null)
    return tuple(map(str, column.sources)) == value.sources and defaults


def writes_null(value: Value, about: Mapping[str, Any]) -> bool:
    """Whether the trigger writes null into a column with a default if the user has no value."""
    has_default = about["default"] is not None and not about["refuses_null"]
    return bool(has_default and value.sources and value.default is None)


def is_table_default(value: Value, about: Mapping[str, Any] | None) -> bool:
    """Whether the column's default in the table gives this value."""
    if about is None or value.sources or value.expression:
        return False
    default = about["default"] or "NULL"
    if value.is_now:
        return default.lower().replace(" ", "") in {"now()", "current_timestamp"}
    return re.fullmatch(re.escape(literal(value.default)) + r"(::.*)?", default, re.IGNORECASE) is not None


def _and(parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
