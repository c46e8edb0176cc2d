"""Whether usersync is in this database at all, or something else under its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, lines
from usersync.models import Finding
from usersync.schema.third_party_triggers import OUR_TRIGGERS, third_party_triggers
from usersync.sql.expressions import literal
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.transports.steps import Row, Steps

# Which other triggers go with a recipe's function.
_SHARERS = """
    select tgname as name, tgrelid::regclass::text as relation
    from pg_trigger
    where not tgisinternal and tgfoid = %(function)s::regprocedure
        and not (tgrelid = to_regclass(%(source_table)s) and tgname = any(%(ours)s))
    order by relation, name
"""


def look(context: Context) -> Steps[Verdict]:
    if context.inspection.noted is not None:
        return Verdict("schema usersync is installed")
    recipes: dict[str, list[Row]] = {}
    others = third_party_triggers(context.settings, context.inspection.catalog)
    for each in others:
        if each.not_restorable and each.conflicts_with_ours:
            recipes[each.function] = yield from query(
                _SHARERS,
                function=each.function,
                source_table=context.settings.source_table.quoted,
                ours=list(OUR_TRIGGERS),
            )
    adopt = any(each.is_replaceable and each.has_our_name for each in others)
    return Verdict("", (_finding(context, recipes, adopt=adopt),))


def _finding(context: Context, recipes: Mapping[str, list[Row]], *, adopt: bool) -> Finding:
    # A log without partitions is what a dump of one schema leaves: D027 is skipped without an installation.
    obstacles = [each for each in context.findings if each.level == "error" or each.code == "D027"]
    # What to do about a hand-written trigger is said below, in what can be pasted.
    fixes = [each.fix for each in obstacles if each.fix and each.code != "D005"]
    return Finding(
        "D002",
        "schema usersync",
        lines(["usersync is not installed in this database", *(each.message for each in obstacles)]),
        lines([*fixes, *_removal(recipes), "usersync apply --adopt" if adopt else "usersync apply"]),
    )


def _removal(recipes: Mapping[str, list[Row]]) -> Iterator[str]:
    """What --adopt cannot take: it goes with its function, since only the table's owner may drop it alone.

    Dropping is for a person: a trigger that shares the function would go too, and nothing brings either back.
    """
    for function, sharers in recipes.items():
        yield "-- Save the function's text, and carry over what else it does:"
        yield f"select pg_get_functiondef({literal(function)}::regprocedure);"
        yield f"-- Then drop it, with its trigger: drop function {function} cascade;"
        if sharers:
            names = ", ".join(f"{each['name']} on {each['relation']}" for each in sharers)
            yield f"-- Careful: this also drops other triggers that run it: {names}"


CHECK = Definition("D002", "Installation", look, "source")
