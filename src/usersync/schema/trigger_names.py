"""The names of usersync's triggers on the auth server's table.

Triggers of one kind fire in the order of their names, and a migration of the application may create its
triggers again. So usersync replaces a hand-written trigger under that trigger's name. A trigger that stays
keeps its name, and usersync's trigger gets another name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

# Bits of pg_trigger.tgtype.
INSERT, DELETE, UPDATE = 4, 8, 16

_OPERATIONS = {"INSERT": INSERT, "DELETE": DELETE, "UPDATE": UPDATE}


@dataclass(frozen=True)
class OwnTrigger:
    """One of usersync's triggers: the name that it has if that name is free, and its function."""

    name: str
    function: str
    operation: int
    #: Alternative names that sort later, in order of preference. The last one sorts after nearly every name.
    late_names: tuple[str, ...]


OWN_TRIGGERS = (
    OwnTrigger(
        "on_auth_user_created",
        "usersync.handle_new_user",
        INSERT,
        ("on_auth_user_zz_created", "zz_on_auth_user_created"),
    ),
    OwnTrigger("on_auth_user_updated", "usersync.handle_updated_user", UPDATE, ("on_auth_user_zz_updated",)),
    OwnTrigger("on_auth_user_deleted", "usersync.handle_deleted_user", DELETE, ("on_auth_user_zz_deleted",)),
)


@dataclass(frozen=True)
class NamingContext:
    """What the names of usersync's triggers depend on."""

    #: The triggers on the auth server's table, from the catalog.
    triggers: Iterable[Mapping[str, Any]]
    #: Hand-written triggers that usersync replaces: the name, and the operations as bits of tgtype.
    replaced: Mapping[str, int]
    #: Triggers that stay and insert rows into the users table.
    row_creators: Collection[str] = ()
    #: Original names of triggers that an earlier release renamed.
    returned: Collection[str] = ()


def trigger_names(context: NamingContext) -> dict[str, str]:
    """The name of each of usersync's triggers, by its usual name."""
    chosen = dict[str, str]()
    for own in OWN_TRIGGERS:
        taken = {*chosen.values(), *context.returned, *_others(context)}
        candidates = (
            *sorted(name for name, operations in context.replaced.items() if operations & own.operation),
            *_after(
                (*_present(context, own), *_usual(context, own), *own.late_names), own, context.row_creators
            ),
        )
        free = (name for name in candidates if name not in taken)
        chosen[own.name] = next(free, own.late_names[-1])
    return chosen


def _others(context: NamingContext) -> Iterator[str]:
    """The names of the triggers that stay."""
    for trigger in context.triggers:
        if not trigger["ours"] and trigger["name"] not in context.replaced:
            yield trigger["name"]


def _usual(context: NamingContext, own: OwnTrigger) -> Iterator[str]:
    """The usual name, unless a migration of the application is likely to use it.

    An application with triggers on this table may add one for updates or deletions under this name.
    """
    is_shared = bool(context.replaced) or any(not trigger["ours"] for trigger in context.triggers)
    if own.operation == INSERT or not is_shared:
        yield own.name


def _present(context: NamingContext, own: OwnTrigger) -> list[str]:
    """The names that usersync's trigger has now, the usual name first."""
    names = {trigger["name"] for trigger in context.triggers if trigger["function"] == own.function}
    return sorted(names, key=lambda name: (name != own.name, name))


def _after(names: Iterable[str], own: OwnTrigger, row_creators: Collection[str]) -> Iterator[str]:
    """The names that sort after those of triggers that insert the user's row, so that these fire first."""
    for name in names:
        if own.operation != INSERT or not any(creator > name for creator in row_creators):
            yield name


def operations_of(definition: str) -> int:
    """The operations that a trigger fires on, as bits of tgtype, from its definition."""
    found = re.search(r"\b(?:BEFORE|AFTER|INSTEAD OF) (.*?) ON ", definition, re.DOTALL)
    return sum(bit for name, bit in _OPERATIONS.items() if found and re.search(rf"\b{name}\b", found[1]))


def is_made_by(definition: str, sql: str) -> bool:
    """Whether the statement creates a trigger with this definition."""
    return _normal(definition) == _normal(sql)


def _normal(definition: str) -> str:
    """The text without differences in case, quotes, spaces and OR REPLACE."""
    plain = definition.replace('"', "").rstrip("; \n")
    return re.sub(r"\s+", " ", re.sub(r"(?i)create or replace ", "create ", plain)).lower()


def renamed(sql: str, usual: str, name: str) -> str:
    """The statement that creates a trigger, with another name."""
    return sql.replace(f"trigger {usual}\n", f"trigger {quote(name)}\n", 1) if name != usual else sql
