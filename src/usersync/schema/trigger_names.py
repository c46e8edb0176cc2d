"""The names of usersync's triggers on the auth server's table.

Triggers of a kind fire in the order of their names, and an application's next migration may create any of its
triggers again. So a hand-written trigger that usersync replaces is replaced under its own name, and one that
stays keeps its name: then usersync's trigger has another one.
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
    """One of usersync's triggers: the name that it has where nothing is in its way, and what it runs."""

    name: str
    function: str
    operation: int
    #: Names that sort later, in this order; the last one after nearly every name.
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
class Surroundings:
    """What decides about the names."""

    #: The triggers on the auth server's table, from the catalog.
    triggers: Iterable[Mapping[str, Any]]
    #: Hand-written triggers that usersync replaces: the name, and the operations as bits of tgtype.
    replaced: Mapping[str, int]
    #: Triggers that stay and insert rows into the users table.
    makers: Collection[str] = ()
    #: Names that triggers get back which an earlier release had renamed.
    returned: Collection[str] = ()


def trigger_names(around: Surroundings) -> dict[str, str]:
    """The name of each of usersync's triggers, by its usual name."""
    chosen = dict[str, str]()
    for own in OWN_TRIGGERS:
        taken = {*chosen.values(), *around.returned, *_others(around)}
        candidates = (
            *sorted(name for name, operations in around.replaced.items() if operations & own.operation),
            *_after((*_present(around, own), *_usual(around, own), *own.late_names), own, around.makers),
        )
        free = (name for name in candidates if name not in taken)
        chosen[own.name] = next(free, own.late_names[-1])
    return chosen


def _others(around: Surroundings) -> Iterator[str]:
    """The names of the triggers that stay."""
    for trigger in around.triggers:
        if not trigger["ours"] and trigger["name"] not in around.replaced:
            yield trigger["name"]


def _usual(around: Surroundings, own: OwnTrigger) -> Iterator[str]:
    """The usual name, if no migration of the application is likely to take it away.

    Applications with triggers here get one for updates or deletions sooner or later, and call it so.
    """
    is_shared = bool(around.replaced) or any(not trigger["ours"] for trigger in around.triggers)
    if own.operation == INSERT or not is_shared:
        yield own.name


def _present(around: Surroundings, own: OwnTrigger) -> list[str]:
    """The names that it has; the usual one comes first."""
    names = {trigger["name"] for trigger in around.triggers if trigger["function"] == own.function}
    return sorted(names, key=lambda name: (name != own.name, name))


def _after(names: Iterable[str], own: OwnTrigger, makers: Collection[str]) -> Iterator[str]:
    """Those that let triggers which insert the user's row come first, so that it is made as before."""
    for name in names:
        if own.operation != INSERT or not any(maker > name for maker in makers):
            yield name


def operations_of(definition: str) -> int:
    """The operations that a trigger fires on, as bits of tgtype, from its definition."""
    found = re.search(r"\b(?:BEFORE|AFTER|INSTEAD OF) (.*?) ON ", definition, re.DOTALL)
    return sum(bit for name, bit in _OPERATIONS.items() if found and re.search(rf"\b{name}\b", found[1]))


def is_made_by(definition: str, sql: str) -> bool:
    """Whether a trigger with this definition is what the statement makes."""
    return _normal(definition) == _normal(sql)


def _normal(definition: str) -> str:
    """The text without what does not matter: case, quotes, spaces, OR REPLACE."""
    plain = definition.replace('"', "").rstrip("; \n")
    return re.sub(r"\s+", " ", re.sub(r"(?i)create or replace ", "create ", plain)).lower()


def renamed(sql: str, usual: str, name: str) -> str:
    """The statement that makes a trigger, under another name."""
    return sql.replace(f"trigger {usual}\n", f"trigger {quote(name)}\n", 1) if name != usual else sql
