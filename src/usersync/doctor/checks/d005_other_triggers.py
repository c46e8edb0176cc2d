"""Which third-party triggers run on a sign-up, in which order; and whether one runs usersync's functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.adopted_functions import changed_functions
from usersync.schema.adoption import adoption
from usersync.schema.trigger_parser import parse_function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.transports.steps import Steps

# Bits of pg_trigger.tgtype.
_ROW, _BEFORE, _INSERT = 1, 2, 4


def look(context: Context) -> Steps[Verdict]:
    triggers = [each for each in context.inspection.catalog["source_triggers"] if each["enabled"] != "D"]
    ours = set(adoption(context.settings, context.inspection.catalog, adopt=False).names.values())
    others = [each for each in triggers if each["name"] not in ours or not each["ours"]]
    changed = yield from changed_functions(context.settings, context.inspection)
    early = tuple(_too_early(context, triggers, others))
    return Verdict(_listing(triggers, others), (*_duplicates(others), *early, *changed))


def _too_early(
    context: Context, triggers: list[Mapping[str, Any]], others: list[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Triggers that use the users table, or a table that refers to it, before the row is created."""
    ours = sorted((each for each in triggers if each["ours"] and each["type"] & _INSERT), key=_turn)
    for each in others if ours else ():
        if each["ours"] or each["type"] & _BEFORE or not each["type"] & _INSERT:
            continue
        named = _needs(context, each) if _turn(each) < _turn(ours[0]) else []
        if named:
            first = ours[0]["name"]
            yield Finding(
                "D005",
                f"trigger {each['name']}",
                f"the trigger {each['name']} fires before {first}, and {each['function']}() uses "
                f"{', '.join(named)}. The new user has no row in {context.settings.users_table} yet: a "
                "foreign key to it fails the sign-up, and a query may not find it",
                "-- To try it: usersync doctor --canary. If it needs the row, create the trigger under "
                f"a name that comes after {first}: triggers of a kind fire in the order of names.",
                "warning",
            )


def _needs(context: Context, trigger: Mapping[str, Any]) -> list[str]:
    """The tables that the trigger uses and that need the row; empty if the trigger creates the row itself."""
    users, keys = context.settings.users_table, context.inspection.foreign_keys
    parsed = parse_function(trigger["body"], trigger["language"])
    if any(write.table == users and write.kind == "insert" for write in parsed.writes):
        return []
    tables = {users.name, *(key.child_name.rpartition(".")[2].strip('"') for key in keys.to(keys.users))}
    used = re.findall(r'(?i)\b(?:from|join|update|into)\s+(?:"?(\w+)"?\.)?"?(\w+)', trigger["body"] or "")
    return sorted({name for schema, name in used if name in tables and schema != "auth"})


def _duplicates(others: list[Mapping[str, Any]]) -> Iterator[Finding]:
    for each in others:
        if each["ours"] and not is_of_tracked_table(each["function"]):
            yield Finding(
                "D005",
                f"trigger {each['name']}",
                f"the trigger {each['name']} also runs {each['function']}: each user is synced twice, "
                "or by a kind of trigger that the function does not support",
                "usersync apply",
                safe=True,
            )


def _listing(triggers: list[Mapping[str, Any]], others: list[Mapping[str, Any]]) -> str:
    if not others:
        return "none"
    on_sign_up = sorted((each for each in triggers if each["type"] & _INSERT), key=_turn)
    listed = ", ".join(f"{each['name']} ({each['function']})" for each in others)
    order = ", ".join(each["name"] for each in on_sign_up)
    return f"{listed}; order of firing on a sign-up: {order}"


def _turn(trigger: Mapping[str, Any]) -> tuple[int, str]:
    """BEFORE STATEMENT, BEFORE ROW, AFTER ROW, AFTER STATEMENT; by name within each."""
    row, before = bool(trigger["type"] & _ROW), bool(trigger["type"] & _BEFORE)
    phase = {(True, False): 0, (True, True): 1, (False, True): 2, (False, False): 3}[before, row]
    return phase, trigger["name"]


CHECK = Definition("D005", "Third-party triggers on the auth server's table", look, "source")
