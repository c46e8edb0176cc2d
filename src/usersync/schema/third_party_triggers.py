"""Triggers of others on the auth server's table: what each does, and what it means beside usersync's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.models import Finding
from usersync.schema.effects import BEFORE, INSERT, ROW, beyond, effects
from usersync.schema.recipes import read_recipe
from usersync.schema.recipes.reading import CONDITIONAL
from usersync.schema.trigger_names import OWN_TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings
    from usersync.schema.recipes import Recipe, Write

OUR_TRIGGERS = tuple(own.name for own in OWN_TRIGGERS)

#: Our trigger for sign-ups has this name at the latest where others insert the user's row themselves.
LATE_NAME = OWN_TRIGGERS[0].late_names[-1]


@dataclass(frozen=True)
class Stranger:
    """A trigger on the auth server's table that is not usersync's."""

    name: str
    function: str
    recipe: Recipe
    #: What it writes, on the operations that it fires on.
    effects: tuple[Write, ...]
    #: What it does beyond copying what the mapping copies, in words; empty if it does no more.
    beyond: tuple[str, ...]
    #: What keeps it from being taken away and brought back as it was, in words, or None.
    fixed: str | None
    has_our_name: bool
    #: Inserts the user's row when somebody signs up, for each row after the INSERT.
    makes_rows: bool
    #: Inserts into the users table where usersync has done that before, and then fails the sign-up.
    collides: bool

    @property
    def is_copy(self) -> bool:
        """Whether usersync can take its place."""
        return not self.beyond and self.fixed is None


def strangers(settings: Settings, catalog: Mapping[str, Any]) -> tuple[Stranger, ...]:
    """The triggers of others on the auth server's table, and what each does."""
    found = (
        _stranger(trigger, settings, catalog) for trigger in catalog["source_triggers"] if not trigger["ours"]
    )
    return _together(tuple(found), settings)


def written_tables(settings: Settings, catalog: Mapping[str, Any]) -> frozenset[TableName]:
    """The tables that the triggers of others write to, as far as their text can be read."""
    return frozenset(write.table for each in strangers(settings, catalog) for write in _writes(each))


def _writes(each: Stranger) -> tuple[Write, ...]:
    return (*each.recipe.writes, *each.recipe.unread)


def _stranger(trigger: Mapping[str, Any], settings: Settings, catalog: Mapping[str, Any]) -> Stranger:
    recipe = read_recipe(trigger["body"], trigger["language"])
    return Stranger(
        trigger["name"],
        f"{trigger['function']}()",
        recipe,
        effects(trigger, recipe),
        tuple(dict.fromkeys(beyond(trigger, recipe, settings, catalog))),
        _fixed(trigger),
        trigger["name"] in OUR_TRIGGERS,
        _makes_rows(trigger, recipe, settings),
        trigger["enabled"] != "D" and _collides(trigger, recipe, settings),
    )


def _together(found: tuple[Stranger, ...], settings: Settings) -> tuple[Stranger, ...]:
    """Triggers that depend on each other's rows are all replaced, or all kept."""
    table = settings.users_table
    staying = [each for each in found if not each.is_copy and _depends_on_rows(each.recipe, table)]
    if not staying:
        return found
    why = f"works together with {staying[0].name}, which stays"
    return tuple(
        replace(each, beyond=(why,))
        if each.is_copy and any(write.table == table for write in each.recipe.writes)
        else each
        for each in found
    )


def _makes_rows(trigger: Mapping[str, Any], recipe: Recipe, settings: Settings) -> bool:
    if trigger["enabled"] == "D" or trigger["type"] & (ROW | BEFORE | INSERT) != ROW | INSERT:
        return False
    inserts = any(
        each.kind == "insert" and each.table == settings.users_table and "INSERT" in each.condition.operations
        for each in effects(trigger, recipe)
    )
    # A statement that is not understood may insert it, too.
    return inserts or settings.users_table.name in recipe.names


def _depends_on_rows(recipe: Recipe, table: TableName) -> bool:
    """Whether it makes rows of the table itself, or raises by what it finds there."""
    makes = any(write.kind == "insert" and write.table == table for write in recipe.writes)
    return makes or (recipe.raises and table.name in recipe.names)


def _collides(trigger: Mapping[str, Any], recipe: Recipe, settings: Settings) -> bool:
    """Whether it inserts a row that usersync has made before, and then fails the request."""
    inserts = [
        each
        for each in effects(trigger, recipe)
        if each.table == settings.users_table and each.fails_on_conflict
    ]
    on_change = any("UPDATE" in each.condition.operations for each in inserts)
    on_sign_up = any("INSERT" in each.condition.operations for each in inserts)
    return on_change or (on_sign_up and _comes_after(trigger, LATE_NAME))


def _fixed(trigger: Mapping[str, Any]) -> str | None:
    if trigger["is_constraint"]:
        return "is a constraint trigger, which only the owner of the auth server's table can remove"
    if trigger["enabled"] != "O":
        return "is disabled, which only the owner of the auth server's table could bring back"
    if not trigger["executable"]:
        return (
            f"runs {trigger['function']}(), which this role may not execute, and so could not make it again"
        )
    return None


def _comes_after(trigger: Mapping[str, Any], ours: str) -> bool:
    kind = trigger["type"]
    if kind & BEFORE or not kind & INSERT:
        return False
    if " DEFERRABLE INITIALLY DEFERRED " in trigger["definition"]:
        return True
    return not kind & ROW or bool(trigger["name"] > ours)


def stranger_findings(
    settings: Settings, catalog: Mapping[str, Any], names: Mapping[str, str], replaced: Collection[str]
) -> Iterator[Finding]:
    """What other triggers on the auth server's table mean for usersync, and usersync for them.

    ``names`` are those of usersync's triggers, by their usual names; the triggers in ``replaced`` go.
    """
    for each in strangers(settings, catalog):
        if each.name in replaced:
            continue
        if each.collides:
            yield _collision(each, settings)
        elif not each.is_copy:
            yield from _beside_ours(each, settings, catalog, names)
        elif each.has_our_name:
            yield _in_our_place(each, settings)
        else:
            yield Finding(
                "D005",
                f"trigger {each.name}",
                f"the trigger {each.name} on {settings.source_table} runs {each.function}, which copies what "
                "usersync copies, and fails the sign-up when it fails",
                "-- usersync apply --adopt takes its place, and rollback brings it back.",
                "warning",
            )


def _in_our_place(each: Stranger, settings: Settings) -> Finding:
    return Finding(
        "D005",
        f"trigger {each.name}",
        f"the trigger {each.name} on {settings.source_table} is not usersync's: it runs {each.function}",
        "-- It copies a row, as usersync does: usersync apply --adopt takes its place, and rollback brings "
        "it back. Or drop it yourself, with its function because the table is not yours to alter: "
        f"drop function {each.function} cascade;",
        level="error",
    )


def _collision(each: Stranger, settings: Settings) -> Finding:
    return Finding(
        "D005",
        f"trigger {each.name}",
        f"the trigger {each.name} on {settings.source_table} runs {each.function} after usersync's, and "
        "inserts the same row without ON CONFLICT, which fails",
        "-- usersync apply --adopt takes its place, and rollback brings it back."
        if each.is_copy
        else f"-- Add on conflict ({quote(settings.key)}) do nothing to its INSERT, or drop it: "
        f"drop function {each.function} cascade;",
        level="error",
    )


def _beside_ours(
    each: Stranger, settings: Settings, catalog: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Finding]:
    trigger = next(one for one in catalog["source_triggers"] if one["name"] == each.name)
    if trigger["enabled"] == "D" or not trigger["type"] & INSERT or trigger["type"] & BEFORE:
        return
    first = "" if _comes_after(trigger, names[OUR_TRIGGERS[0]]) else " before usersync's"
    what = listed(each.beyond or (str(each.fixed),))
    hint = f"It {what}, and stays. What it raises fails the sign-up, as before."
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
    if first and not each.makes_rows:
        hint += (
            " If it requires the user's row, give it a name that sorts later: triggers fire in the order of "
            "their names."
        )
    if each.makes_rows and settings.creates_rows and CONDITIONAL in " ".join(each.beyond):
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
