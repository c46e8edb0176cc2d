"""Functions of replaced triggers that the application changed later: the change has no effect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.schema.effects import BEFORE, DELETE, INSERT, ROW, UPDATE, unreproduced_effects
from usersync.schema.third_party_triggers import listed
from usersync.schema.trigger_parser import parse_function
from usersync.transports.steps import PIN_SEARCH_PATH, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.transports.steps import Row, Steps

#: adopt_trigger stored the output of pg_get_functiondef.
_CHANGED = """
    select adopted.name, adopted.definition, adopted.function_name, nspname || '.' || proname as function,
        prosrc as body, lanname as language
    from usersync.adopted
    join pg_proc on pg_proc.oid = to_regprocedure(adopted.function_name)
    join pg_namespace on pg_namespace.oid = pronamespace
    join pg_language on pg_language.oid = prolang
    where adopted.kind = 'trigger'
        and not starts_with(adopted.function_definition, pg_get_functiondef(pg_proc.oid))
    order by adopted.name
"""


def changed_functions(settings: Settings, inspection: Inspection) -> Steps[tuple[Finding, ...]]:
    """A finding for each function whose new text does something that usersync does not do."""
    if inspection.noted is None or "usersync.adopted" not in inspection.catalog["installed_tables"]:
        return ()
    rows = yield from query(PIN_SEARCH_PATH + _CHANGED)
    return tuple(_findings(rows, settings, inspection))


def _findings(rows: list[Row], settings: Settings, inspection: Inspection) -> Iterator[Finding]:
    # A trigger that was created again runs its function, so the change has an effect.
    running = {
        (each["name"], each["function"])
        for each in inspection.catalog["source_triggers"] or ()
        if each["enabled"] != "D"
    }
    for row in rows:
        if (row["name"], row["function"]) in running:
            continue
        parsed = parse_function(row["body"], row["language"])
        trigger = {"definition": row["definition"], "type": _type(row["definition"])}
        does = tuple(dict.fromkeys(unreproduced_effects(trigger, parsed, settings, inspection.catalog)))
        if does:
            yield Finding(
                "D005",
                f"function {row['function_name']}",
                f"the function {row['function_name']} was changed after usersync had replaced its trigger "
                f"{row['name']}, and the change has no effect. It {listed(does)}, and usersync does not",
                "-- If the settings can say the same, change usersync.toml. Otherwise restore the trigger, "
                "and let usersync decide again which triggers it replaces: usersync rollback, then usersync "
                "apply --adopt. rollback also stops the tracking of tables and drops the failures table.",
            )


def _type(definition: str) -> int:
    """The bits of pg_trigger.tgtype, from a trigger's definition."""
    head = definition.partition(" ON ")[0]
    bits = {r"\bBEFORE\b": BEFORE, r"\bINSERT\b": INSERT, r"\bUPDATE\b": UPDATE, r"\bDELETE\b": DELETE}
    row = ROW if " FOR EACH ROW" in definition else 0
    return row + sum(bit for pattern, bit in bits.items() if re.search(pattern, head))
