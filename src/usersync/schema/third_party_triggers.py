"""Third-party triggers on the auth server's table: what each does, and whether usersync can replace it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.models import Finding
from usersync.schema.effects import BEFORE, INSERT, ROW, effects, events, unreproduced_effects
from usersync.schema.trigger_names import OWN_TRIGGERS, operations_of
from usersync.schema.trigger_parser import parse_function
from usersync.schema.trigger_parser.statements import CONDITIONAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings
    from usersync.schema.trigger_parser import ParsedFunction, Write

OUR_TRIGGERS = tuple(own.name for own in OWN_TRIGGERS)

#: The last name that our trigger for sign-ups gets if third-party triggers insert the user's row.
LATE_NAME = OWN_TRIGGERS[0].late_names[-1]


@dataclass(frozen=True)
class ThirdPartyTrigger:
    """A trigger on the auth server's table that usersync did not create."""

    name: str
    function: str
    parsed: ParsedFunction
    #: What the trigger writes, on the operations that it fires on.
    effects: tuple[Write, ...]
    #: What the trigger does that usersync would not do, in words.
    other_effects: tuple[str, ...]
    #: Why usersync cannot remove the trigger and restore it later, in words, or None.
    not_restorable: str | None
    has_our_name: bool
    is_enabled: bool
    #: The operations that it fires on.
    events: frozenset[str]
    #: Inserts the user's row at a sign-up, as an AFTER INSERT row trigger.
    creates_the_row: bool
    #: Inserts a row that usersync has inserted before, and then fails the sign-up.
    conflicts_with_ours: bool

    @property
    def is_replaceable(self) -> bool:
        """Whether usersync can replace the trigger."""
        return not self.other_effects and self.not_restorable is None


def third_party_triggers(settings: Settings, catalog: Mapping[str, Any]) -> tuple[ThirdPartyTrigger, ...]:
    """The third-party triggers on the auth server's table."""
    found = (
        _third_party_trigger(trigger, settings, catalog)
        for trigger in catalog["source_triggers"] or ()
        if not trigger["ours"]
    )
    return _together(tuple(found), settings)


def row_creators(settings: Settings, catalog: Mapping[str, Any]) -> tuple[ThirdPartyTrigger, ...]:
    """The third-party triggers that insert the row of a new user and that usersync cannot replace."""
    found = third_party_triggers(settings, catalog)
    return tuple(each for each in found if each.creates_the_row and not each.is_replaceable)


def written_tables(settings: Settings, catalog: Mapping[str, Any]) -> frozenset[TableName]:
    """The tables that third-party triggers write to, as far as their text can be parsed."""
    return frozenset(
        write.table for each in third_party_triggers(settings, catalog) for write in _writes(each)
    )


def rows_without_usersync(settings: Settings, catalog: Mapping[str, Any]) -> bool:
    """Whether a new user gets a row without usersync, too: from the application or one of its triggers.

    A trigger that usersync replaced counts, because it would create the row again without usersync.
    """
    if not settings.creates_rows:
        return True
    # Only a trigger whose INSERT can be read is evidence.
    created = any(
        each.creates_the_row and _writes_row(each.effects, "insert", "INSERT", settings)
        for each in third_party_triggers(settings, catalog)
    )
    return created or any(
        each["kind"] == "trigger" and not each["moved_to"] and operations_of(each["definition"]) & INSERT
        for each in catalog["adopted"]
    )


def deletes_row(settings: Settings, catalog: Mapping[str, Any]) -> str | None:
    """The name of a third-party trigger that stays, and deletes a deleted user's row itself."""
    found = (
        each.name
        for each in third_party_triggers(settings, catalog)
        if each.is_enabled
        and not each.is_replaceable
        and _writes_row(each.effects, "delete", "DELETE", settings)
    )
    return next(found, None)


def _writes_row(written: Iterable[Write], kind: str, operation: str, settings: Settings) -> bool:
    """Whether one of the writes is of this kind, to the users table, on this operation."""
    return any(
        write.kind == kind and write.table == settings.users_table and operation in write.condition.operations
        for write in written
    )


def _writes(each: ThirdPartyTrigger) -> tuple[Write, ...]:
    return (*each.parsed.writes, *each.parsed.unread)


def _third_party_trigger(
    trigger: Mapping[str, Any], settings: Settings, catalog: Mapping[str, Any]
) -> ThirdPartyTrigger:
    parsed = parse_function(trigger["body"], trigger["language"])
    written = effects(trigger, parsed)
    return ThirdPartyTrigger(
        trigger["name"],
        f"{trigger['function']}()",
        parsed,
        written,
        tuple(dict.fromkeys(unreproduced_effects(trigger, parsed, settings, catalog))),
        _not_restorable(trigger),
        trigger["name"] in OUR_TRIGGERS,
        trigger["enabled"] in {"O", "A"},
        events(trigger),
        _makes_rows(trigger, parsed, written, settings),
        trigger["enabled"] != "D" and _conflicts_with_ours(trigger, written, settings),
    )


def _together(found: tuple[ThirdPartyTrigger, ...], settings: Settings) -> tuple[ThirdPartyTrigger, ...]:
    """Triggers that depend on each other's rows are all replaced, or all kept."""
    table = settings.users_table
    staying = [each for each in found if not each.is_replaceable and _depends_on_rows(each.parsed, table)]
    if not staying:
        return found
    why = f"works together with {staying[0].name}, which stays"
    return tuple(
        replace(each, other_effects=(why,))
        if each.is_replaceable and any(write.table == table for write in each.parsed.writes)
        else each
        for each in found
    )


def _makes_rows(
    trigger: Mapping[str, Any], parsed: ParsedFunction, written: Iterable[Write], settings: Settings
) -> bool:
    if trigger["enabled"] == "D" or trigger["type"] & (ROW | BEFORE | INSERT) != ROW | INSERT:
        return False
    # A statement that cannot be parsed may insert the row, too.
    return _writes_row(written, "insert", "INSERT", settings) or settings.users_table.name in parsed.names


def _depends_on_rows(parsed: ParsedFunction, table: TableName) -> bool:
    """Whether the trigger creates rows of the table, or raises errors depending on its rows."""
    creates = any(write.kind == "insert" and write.table == table for write in parsed.writes)
    return creates or (parsed.raises and table.name in parsed.names)


def _conflicts_with_ours(trigger: Mapping[str, Any], written: Iterable[Write], settings: Settings) -> bool:
    """Whether the trigger inserts a row that usersync has inserted before, and then fails the request."""
    inserts = [each for each in written if each.table == settings.users_table and each.fails_on_conflict]
    on_change = any("UPDATE" in each.condition.operations for each in inserts)
    on_sign_up = any("INSERT" in each.condition.operations for each in inserts)
    return on_change or (on_sign_up and _comes_after(trigger, LATE_NAME))


def _not_restorable(trigger: Mapping[str, Any]) -> str | None:
    if trigger["is_constraint"]:
        return "is a constraint trigger, which only the owner of the auth server's table can remove"
    if trigger["enabled"] != "O":
        return "is disabled, which only the owner of the auth server's table could restore"
    if not trigger["executable"]:
        return f"runs {trigger['function']}(), which this role may not execute, so usersync cannot restore it"
    return None


def _comes_after(trigger: Mapping[str, Any], ours: str) -> bool:
    kind = trigger["type"]
    if kind & BEFORE or not kind & INSERT:
        return False
    if " DEFERRABLE INITIALLY DEFERRED " in trigger["definition"]:
        return True
    return not kind & ROW or bool(trigger["name"] > ours)


def trigger_findings(
    settings: Settings, catalog: Mapping[str, Any], names: Mapping[str, str], replaced: Collection[str]
) -> Iterator[Finding]:
    """Findings about third-party triggers on the auth server's table.

    ``names`` are the names of usersync's triggers, by their usual names. ``replaced`` are triggers to remove.
    """
    for each in third_party_triggers(settings, catalog):
        if each.name in replaced:
            continue
        if each.conflicts_with_ours:
            yield _collision(each, settings)
        elif not each.is_replaceable:
            yield from _beside_ours(each, settings, catalog, names)
        elif each.has_our_name:
            yield _in_our_place(each, settings)
        else:
            yield Finding(
                "D005",
                f"trigger {each.name}",
                f"the trigger {each.name} on {settings.source_table} runs {each.function}, which does what "
                f"usersync does. An error in it fails {_failing_requests(each)}",
                "-- usersync apply --adopt replaces it, and rollback restores it.",
                "warning",
            )


def _failing_requests(each: ThirdPartyTrigger) -> str:
    """The auth server's requests that an error in the trigger fails, in words."""
    return " or ".join(words for event, words in _REQUESTS.items() if event in each.events)


_REQUESTS = {"INSERT": "the sign-up", "UPDATE": "the change of the user", "DELETE": "the deletion"}


def _in_our_place(each: ThirdPartyTrigger, settings: Settings) -> Finding:
    return Finding(
        "D005",
        f"trigger {each.name}",
        f"the trigger {each.name} on {settings.source_table} is not usersync's: it runs {each.function}",
        "-- It copies a row, as usersync does: usersync apply --adopt replaces it, and rollback restores it. "
        "Only the table's owner can drop the trigger alone. To drop it with its function: "
        f"drop function {each.function} cascade;",
        level="error",
    )


def _collision(each: ThirdPartyTrigger, settings: Settings) -> Finding:
    return Finding(
        "D005",
        f"trigger {each.name}",
        f"the trigger {each.name} on {settings.source_table} runs {each.function} after usersync's, and "
        "inserts the same row without ON CONFLICT, which fails",
        "-- usersync apply --adopt replaces it, and rollback restores it."
        if each.is_replaceable
        else f"-- Add on conflict ({quote(settings.key)}) do nothing to its INSERT, or drop it: "
        f"drop function {each.function} cascade;",
        level="error",
    )


def _beside_ours(
    each: ThirdPartyTrigger, settings: Settings, catalog: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Finding]:
    trigger = next(one for one in catalog["source_triggers"] if one["name"] == each.name)
    if trigger["enabled"] == "D" or not trigger["type"] & INSERT or trigger["type"] & BEFORE:
        return
    first = "" if _comes_after(trigger, names[OUR_TRIGGERS[0]]) else " before usersync's"
    what = listed(each.other_effects or (str(each.not_restorable),))
    hint = f"It {what}, and stays. An error that it raises fails the sign-up, as before."
    gone = [
        str(write.table)
        for write in _writes(each)
        if write.table in catalog.get("gone_tables", ()) and "INSERT" in write.condition.operations
    ]
    if gone:
        yield Finding(
            "D005",
            f"trigger {each.name}",
            f"the trigger {each.name} on {settings.source_table} runs {each.function}{first} on a sign-up, "
            f"and writes to {gone[0]}, which does not exist: a sign-up that reaches this statement fails "
            "(SQLSTATE 42P01), today and with usersync, unless the function creates the table or catches the "
            "error",
            f"-- It {what}, and stays. Correct it, or drop it: drop function {each.function} cascade",
        )
        return
    if first and not each.creates_the_row:
        hint += (
            " If it requires the user's row, give it a name that sorts later: triggers fire in the order of "
            "their names."
        )
    if each.creates_the_row and settings.creates_rows and CONDITIONAL in " ".join(each.other_effects):
        hint += (
            " A user who does not meet its condition may have no row today, and gets one from usersync. "
            "With creates_rows = false in the settings, usersync creates none."
        )
    yield Finding(
        "D005",
        f"trigger {each.name}",
        f"the trigger {each.name} on {settings.source_table} runs {each.function}{first} on a sign-up",
        f"-- {hint}",
        "warning",
    )


def listed(parts: tuple[str, ...]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
