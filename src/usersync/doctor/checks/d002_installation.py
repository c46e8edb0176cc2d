"""Whether usersync is installed in this database, or other objects have its names."""

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

# The other triggers that run the function of a hand-written trigger.
_OTHER_TRIGGERS = """
    select tgname as name, tgrelid::regclass::text as relation
    from pg_trigger
    where not tgisinternal and tgfoid = %(function)s::regprocedure
        and not (tgrelid = to_regclass(%(source_table)s) and tgname = any(%(ours)s))
    order by relation, name
"""


def look(context: Context) -> Steps[Verdict]:
    if context.inspection.noted is not None:
        return Verdict("schema usersync is installed")
    hand_written: dict[str, list[Row]] = {}
    others = third_party_triggers(context.settings, context.inspection.catalog)
    for each in others:
        if each.not_restorable and each.conflicts_with_ours:
            hand_written[each.function] = yield from query(
                _OTHER_TRIGGERS,
                function=each.function,
                source_table=context.settings.source_table.quoted,
                ours=list(OUR_TRIGGERS),
            )
    adopt = any(each.is_replaceable and each.has_our_name for each in others)
    return Verdict("", (_finding(context, hand_written, adopt=adopt),))


def _finding(context: Context, hand_written: Mapping[str, list[Row]], *, adopt: bool) -> Finding:
    # A dump of one schema restores a log without partitions, and D027 is skipped without an installation.
    obstacles = [each for each in context.findings if each.level == "error" or each.code == "D027"]
    # The fix for a hand-written trigger follows below.
    fixes = [each.fix for each in obstacles if each.fix and each.code != "D005"]
    return Finding(
        "D002",
        "schema usersync",
        lines(["usersync is not installed in this database", *(each.message for each in obstacles)]),
        lines([*fixes, *_removal(hand_written), "usersync apply --adopt" if adopt else "usersync apply"]),
    )


def _removal(hand_written: Mapping[str, list[Row]]) -> Iterator[str]:
    """How to remove the triggers that --adopt cannot replace.

    Only the table's owner may drop such a trigger, so the fix drops its function. That is left to a person,
    because it also drops every other trigger that runs the function.
    """
    for function, other_triggers in hand_written.items():
        yield "-- Save the function's text, and move its other statements to a trigger of your own:"
        yield f"select pg_get_functiondef({literal(function)}::regprocedure);"
        yield f"-- Then drop it, with its trigger: drop function {function} cascade;"
        if other_triggers:
            names = ", ".join(f"{each['name']} on {each['relation']}" for each in other_triggers)
            yield f"-- Careful: this also drops other triggers that run it: {names}"


CHECK = Definition("D002", "Installation", look, "source")
