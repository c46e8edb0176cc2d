"""A foreign key from the users table to the auth server's, which decides what deleting a user does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.settings import Settings
    from usersync.transports.steps import Plan, Row

_REFERENCES = """
    select conname as name, confdeltype::text as on_delete,
        format('alter table %%s drop constraint %%I;', conrelid::regclass, conname) as fix
    from pg_constraint
    where contype = 'f'
        and conrelid = to_regclass(%(users_table)s) and confrelid = to_regclass(%(source_table)s)
    order by conname
"""

_CASCADE, _BLOCKING = "c", {"a": "NO ACTION", "r": "RESTRICT"}


def look(context: Context) -> Plan[Verdict]:
    rows = yield from query(_REFERENCES, **context.names)
    well = "there is none" if not rows else "deletes with the auth server's row, as on_delete says"
    return Verdict(well, tuple(_findings(context.settings, rows)))


def _findings(settings: Settings, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        how = row["on_delete"]
        if how in _BLOCKING:
            yield Finding(
                "D013",
                f"constraint {row['name']}",
                f"the foreign key {row['name']} is ON DELETE {_BLOCKING[how]}: the auth server cannot delete "
                "a user who has a row",
                row["fix"],
            )
        elif how != _CASCADE:
            yield Finding(
                "D013",
                f"constraint {row['name']}",
                f"the foreign key {row['name']} empties columns of {settings.users_table} when the auth "
                "server deletes a user; that fails if one of them is the key",
                row["fix"],
            )
        elif settings.on_delete != "delete":
            yield Finding(
                "D013",
                f"constraint {row['name']}",
                f"the foreign key {row['name']} deletes rows of {settings.users_table} with the auth "
                f"server's rows, so on_delete = {settings.on_delete!r} finds nothing to keep",
                row["fix"],
                "warning",
            )


CHECK = Definition("D013", "Foreign key to the auth server's table", look, "users table")
