"""The application's triggers on the users table. They run inside ours, and so on our search path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict
from usersync.plans.protocol import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.plans.protocol import Plan, Row

# A function in C resolves no names by the search path.
_TRIGGERS = """
    select
        tgname as name,
        pg_proc.oid::regprocedure::text as function,
        lanname not in ('c', 'internal') and not exists (
            select from unnest(proconfig) as setting where setting like 'search_path=%%'
        ) as loose,
        format(
            'alter function %%s set search_path = %%s;', pg_proc.oid::regprocedure,
            (
                select string_agg(quote_ident(path.name), ', ' order by path.turn)
                from (
                    select candidate.name, min(candidate.turn) as turn
                    from (values (nspname, 1), ('public', 2), ('extensions', 3)) as candidate (name, turn)
                    join pg_namespace as present on present.nspname = candidate.name
                    group by candidate.name
                ) as path
            )
        ) as fix
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    join pg_namespace on pg_namespace.oid = pronamespace
    join pg_language on pg_language.oid = prolang
    where tgrelid = to_regclass(%(users_table)s) and not tgisinternal and tgenabled <> 'D'
    order by tgname
"""


def look(patient: Patient) -> Plan[Verdict]:
    rows = yield from query(_TRIGGERS, users_table=patient.settings.users_table.quoted)
    listed = ", ".join(f"{row['name']} ({row['function']})" for row in rows)
    return Verdict(listed or "there are none", tuple(_troubles(rows)))


def _troubles(rows: list[Row]) -> Iterator[Trouble]:
    for row in rows:
        if row["loose"]:
            yield Trouble(
                f"the trigger {row['name']} runs {row['function']}, which relies on its caller's search "
                "path. From a sign-up it finds nothing outside pg_catalog, and the user goes to the ledger",
                row["fix"],
                "warning",
            )


CHECK = Definition("D015", "Triggers on the users table", look, "users table")
