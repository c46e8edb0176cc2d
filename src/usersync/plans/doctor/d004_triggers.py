"""The seed's first verification: the three triggers exist, are enabled, and are what was installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.transports.steps import Plan, Row

_TRIGGERS = """
    select tgname as name, tgenabled = 'O' as enabled, pg_get_triggerdef(oid) as definition
    from pg_trigger
    where tgrelid = to_regclass(%(source_table)s) and not tgisinternal
"""


def look(context: Context) -> Plan[Verdict]:
    rows = yield from query(_TRIGGERS, source_table=context.settings.source_table.quoted)
    present = {row["name"]: row for row in rows}
    wanted = context.bundle.triggers
    return Verdict("all three in place", tuple(_findings(wanted, present)))


def _findings(wanted: tuple[tuple[str, str], ...], present: Mapping[str, Row]) -> Iterator[Finding]:
    for name, sql in wanted:
        was = present.get(name)
        if was is None:
            yield Finding(
                "D004",
                f"trigger {name}",
                f"the trigger {name} is missing: nobody is synced by it",
                "usersync apply",
                safe=True,
            )
        elif not was["enabled"]:
            yield Finding(
                "D004",
                f"trigger {name}",
                f"the trigger {name} is disabled: nobody is synced by it",
                "usersync apply",
                safe=True,
            )
        elif _normal(was["definition"]) != _normal(sql):
            yield Finding(
                "D004",
                f"trigger {name}",
                f"the trigger {name} is not as installed: {was['definition']}",
                sql.strip(),
                # Somebody who put a function of their own there is to be asked.
                safe=bool(re.search(r"(?i) execute function usersync\.", was["definition"])),
            )


def _normal(definition: str) -> str:
    """The text without what does not matter: case, quotes, spaces, OR REPLACE."""
    plain = definition.replace('"', "").rstrip("; \n")
    return re.sub(r"\s+", " ", re.sub(r"(?i)create or replace ", "create ", plain)).lower()


CHECK = Definition("D004", "Triggers on the auth server's table", look)
