"""Gates: constraints of the users table that today refuse a sign-up, because the hand-written trigger fails.

With ``--adopt`` such a sign-up succeeds, and only the row is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.schema.effects import BEFORE, INSERT
from usersync.schema.third_party_triggers import third_party_triggers
from usersync.schema.trigger_parser import parse_function
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.schema.third_party_triggers import ThirdPartyTrigger
    from usersync.transports.steps import Row, Steps

#: CHECK constraints, and foreign keys to other tables than the auth server's, with their columns.
_RULES = """
    select conname as name, pg_get_constraintdef(pg_constraint.oid) as definition, array(
        select attname::text from pg_attribute where attrelid = conrelid and attnum = any(conkey)
    ) as columns
    from pg_constraint
    where conrelid = to_regclass(%(table)s) and (
        contype = 'c' or contype = 'f' and confrelid <> to_regclass(%(source)s)
    )
    order by conname
"""
#: How the subject of a finding about a gate begins.
SUBJECT = "gate "


def is_gate(finding: Finding) -> bool:
    """Whether the finding is about a gate, so that a person has to decide."""
    return finding.subject.startswith(SUBJECT)


def gates(settings: Settings, inspection: Inspection) -> Steps[tuple[Finding, ...]]:
    """The gates that disappear with the triggers that ``--adopt`` replaces. Each needs a decision."""
    replaced = [each for each in third_party_triggers(settings, inspection.catalog) if each.is_replaceable]
    creators = [each for each in replaced if _columns_filled_by(each, settings)]
    if not creators or not inspection.has_users_table:
        return ()
    names = {"table": settings.users_table.quoted, "source": settings.source_table.quoted}
    rules = yield from query(_RULES, **names)
    return tuple(_findings(creators[0], rules, settings, inspection))


def _columns_filled_by(each: ThirdPartyTrigger, settings: Settings) -> frozenset[str]:
    """The columns that the trigger fills from the user when it creates the row."""
    return frozenset(
        name
        for write in each.effects
        if write.kind == "insert" and write.table == settings.users_table
        for name, value in write.values.items()
        if value is not None and (value.sources or value.expression)
    )


def _findings(
    creator: ThirdPartyTrigger, rules: list[Row], settings: Settings, inspection: Inspection
) -> Iterator[Finding]:
    written, table = _columns_filled_by(creator, settings) - {settings.key}, settings.users_table
    for rule in rules:
        if written & set(rule["columns"]):
            yield _gate(
                rule["name"], f"the constraint {rule['name']} of {table}, {rule['definition']},", creator
            )
    for column in settings.columns:
        if column.type and column.sources and column.name in written:
            yield _gate(
                column.name, f"a value that does not fit {table}.{column.name} ({column.type})", creator
            )
    for trigger in inspection.catalog["users_triggers"]:
        fires = trigger["type"] & BEFORE and trigger["type"] & INSERT and trigger["enabled"] != "D"
        if fires and parse_function(trigger["body"], trigger["language"]).raises:
            what = f"the trigger {trigger['name']} of {table}, which raises errors,"
            yield _gate(trigger["name"], what, creator)


def _gate(name: str, what: str, creator: ThirdPartyTrigger) -> Finding:
    return Finding(
        "D012",
        f"{SUBJECT}{name}",
        f"{what} refuses a sign-up today, because {creator.name} then fails. If usersync replaces "
        f"{creator.name}, the sign-up succeeds: the user can sign in, and has no complete row",
        "-- Decide. To accept such sign-ups: usersync apply --adopt --accept-changes. To refuse them as "
        "today, keep the trigger: usersync apply, without --adopt.",
    )
