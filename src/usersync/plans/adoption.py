"""Taking the place of a hand-written sync, and giving it back.

A trigger that only copies a row into the users table is taken over: it goes, its definition is kept in
``usersync.adopted``, and rollback brings it back. One that does more stays, and what more it does is said;
where it has the name of one of ours, it goes on under another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.models import Change
from usersync.plans.strangers import Stranger, listed, strangers
from usersync.sql.expressions import literal
from usersync.transports.steps import PINNED, Plan, query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.settings import Settings
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Row


def adopted_names(settings: Settings, catalog: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that :func:`adoption_changes` makes free."""
    return tuple(each.name for each in strangers(settings, catalog) if _is_adopted(each))


def _is_adopted(each: Stranger) -> bool:
    return each.fixed is None and (each.is_copy or each.has_our_name)


def adoption_changes(settings: Settings, catalog: Mapping[str, Any]) -> Iterator[Change]:
    """Taking the place of the triggers of others; needs usersync's functions, so it comes after them."""
    for each in filter(_is_adopted, strangers(settings, catalog)):
        if each.new_name:
            reason = f"it {listed(each.beyond)}: goes on as {each.new_name}"
            sql = f"select usersync.adopt_trigger({literal(each.name)}, {literal(each.new_name)});"
        else:
            reason = "usersync does what it did"
            sql = f"select usersync.adopt_trigger({literal(each.name)});"
        yield Change(
            "drop",
            f"trigger {each.name} of {each.function}",
            f"{reason}; rollback restores it",
            sql,
            busy=True,
        )


def users_triggers(bundle: Bundle) -> Plan[tuple[Row, ...]]:
    """The triggers of the users table; ``names`` are what each finds by its caller's search path."""
    return tuple((yield from query(PINNED + bundle.path_reliance)))


def path_changes(triggers: tuple[Row, ...]) -> Iterator[Change]:
    """Giving functions that rely on their caller's search path one of their own."""
    reliant = (row for row in triggers if row["names"] and row["is_ours"])
    for each in {row["function"]: row for row in reliant}.values():
        yield Change(
            "alter",
            f"search_path of {each['function']}",
            f"it finds {', '.join(each['names'])} by it; rollback resets it",
            "select usersync.adopt_search_path("
            f"{literal(each['function'])}, {literal(each['search_path'])});",
        )


def returned_change(catalog: Mapping[str, Any]) -> Plan[Change | None]:
    """Bringing back what was adopted, once usersync's own triggers are gone; None if nothing was."""
    if "usersync.adopted" not in catalog["installed_tables"]:
        return None
    rows = yield from query("select kind, name from usersync.adopted order by kind desc, name")
    if not rows:
        return None
    names = [f"{'trigger' if row['kind'] == 'trigger' else 'search_path of'} {row['name']}" for row in rows]
    return Change("create", ", ".join(names), "as before usersync", "select usersync.give_back();")
