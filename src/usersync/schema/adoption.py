"""Adoption: replacing hand-written triggers, and restoring them.

A trigger that only copies a row into the users table is replaced: its definition is stored in
``usersync.adopted``, and rollback restores it. A trigger that does more stays under its name, and a finding
says what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.models import Change
from usersync.schema.third_party_triggers import third_party_triggers
from usersync.schema.trigger_names import NamingContext, operations_of, trigger_names
from usersync.sql.expressions import literal
from usersync.transports.steps import PIN_SEARCH_PATH, Steps, query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.settings import Settings
    from usersync.schema.third_party_triggers import ThirdPartyTrigger
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Row


@dataclass(frozen=True)
class Adoption:
    """Which hand-written triggers are replaced, and the names that usersync's triggers get."""

    #: The triggers that usersync replaces.
    replaced: tuple[ThirdPartyTrigger, ...]
    #: The names of usersync's triggers, by their usual names.
    names: Mapping[str, str]
    #: Triggers that an earlier release renamed: the original name, and the present one.
    returned: Mapping[str, str]

    def changes(self) -> Iterator[Change]:
        """Store and remove the replaced triggers. Needs usersync's functions, so it comes after them."""
        for each in self.replaced:
            sql = f"select usersync.adopt_trigger({literal(each.name)});"
            if each.name not in self.names.values():
                sql += f"\nselect usersync.remove_trigger({literal(each.name)});"
            yield Change(
                "drop",
                f"trigger {each.name} of {each.function}",
                "usersync does the same; rollback restores it",
                sql,
                busy=True,
            )

    def returns(self) -> Iterator[Change]:
        """Restore the names of renamed triggers, after usersync's triggers no longer have these names."""
        for name, present in self.returned.items():
            yield Change(
                "alter",
                f"trigger {present}",
                f"gets its original name {name}",
                f"select usersync.restore_adopted({literal(name)});",
                busy=True,
            )


def adoption(settings: Settings, catalog: Mapping[str, Any], *, adopt: bool) -> Adoption:
    """Decide which hand-written triggers are replaced, and the names of usersync's triggers."""
    noted = {row["name"]: row for row in catalog["adopted"] if row["kind"] == "trigger"}
    present = {trigger["name"]: trigger for trigger in catalog["source_triggers"] or ()}
    others = third_party_triggers(settings, catalog) if present else ()
    replaced = tuple(
        each
        for each in others
        if each.is_replaceable and (adopt or _was_adopted(present[each.name], noted.get(each.name)))
    )
    going = {each.name for each in replaced}
    staying = {each.name for each in others} - going
    operations = {
        name: operations_of(row["definition"]) for name, row in noted.items() if not row["moved_to"]
    }
    operations |= {each.name: operations_of(present[each.name]["definition"]) for each in replaced}
    returned = {name: row["moved_to"] for name, row in noted.items() if row["moved_to"]}
    original = {moved: name for name, moved in returned.items()}
    context = NamingContext(
        tuple(present.values()),
        {name: bits for name, bits in operations.items() if name not in staying},
        {
            original.get(each.name, each.name)
            for each in others
            if each.creates_the_row and each.name in staying
        },
        returned,
    )
    return Adoption(replaced, trigger_names(context), returned)


def _was_adopted(trigger: Mapping[str, Any], noted: Mapping[str, Any] | None) -> bool:
    """Whether usersync replaced this trigger before, and it was created again."""
    return (
        noted is not None
        and trigger["definition"] == noted["definition"]
        and trigger["body"] in noted["function_definition"]
    )


def users_triggers(bundle: Bundle) -> Steps[tuple[Row, ...]]:
    """The triggers of the users table; ``names`` are the objects found by the caller's search path."""
    return tuple((yield from query(PIN_SEARCH_PATH + bundle.search_path_dependencies)))


def path_changes(triggers: tuple[Row, ...]) -> Iterator[Change]:
    """Set a search path for functions that rely on the search path of their caller."""
    reliant = (row for row in triggers if row["names"] and row["is_ours"])
    for each in {row["function"]: row for row in reliant}.values():
        yield Change(
            "alter",
            f"search_path of {each['function']}",
            f"the function finds {', '.join(each['names'])} by its caller's search path; rollback resets it",
            "select usersync.adopt_search_path("
            f"{literal(each['function'])}, {literal(each['search_path'])});",
        )


def returned_change(catalog: Mapping[str, Any]) -> Steps[Change | None]:
    """Restore what was adopted, after usersync's triggers are dropped; None if nothing was adopted."""
    if "usersync.adopted" not in catalog["installed_tables"]:
        return None
    rows = yield from query("select kind, name from usersync.adopted order by kind desc, name")
    if not rows:
        return None
    names = [f"{'trigger' if row['kind'] == 'trigger' else 'search_path of'} {row['name']}" for row in rows]
    return Change("create", ", ".join(names), "as before usersync", "select usersync.restore_adopted(null);")
