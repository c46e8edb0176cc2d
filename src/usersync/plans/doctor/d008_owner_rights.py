"""Whether the role that the functions run as may do what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan, Row

_LACKING = """
    select
        pg_get_userbyid(nspowner) as owner,
        string_agg(wanted.privilege, ', ' order by wanted.privilege) as privileges,
        wanted.name as table,
        format('grant %%s on table %%s to %%I;', string_agg(wanted.privilege, ', ' order by wanted.privilege),
            wanted.name, pg_get_userbyid(nspowner)) as fix
    from pg_namespace
    cross join (
        -- UPDATE on the auth server's table is never used; PostgreSQL asks it of whoever locks a row.
        values (%(source_table)s, 'select'), (%(source_table)s, 'update'),
            (%(users_table)s, 'select'), (%(users_table)s, 'insert'), (%(users_table)s, 'update'),
            (case when %(on_delete)s = 'delete' then %(users_table)s end, 'delete')
    ) as wanted (name, privilege)
    where nspname = 'usersync' and to_regclass(wanted.name) is not null
        and not has_table_privilege(nspowner, to_regclass(wanted.name), wanted.privilege)
    group by nspowner, wanted.name
    order by wanted.name
"""

_UNREACHABLE = """
    select home.nspname as schema, pg_get_userbyid(ours.nspowner) as owner,
        format('grant usage on schema %%I to %%I;', home.nspname, pg_get_userbyid(ours.nspowner)) as fix
    from pg_namespace as ours
    join pg_class on pg_class.oid in (to_regclass(%(source_table)s), to_regclass(%(users_table)s))
    join pg_namespace as home on home.oid = relnamespace
    where ours.nspname = 'usersync' and not has_schema_privilege(ours.nspowner, home.oid, 'usage')
    group by 1, 2, 3
"""

_BLINDED = """
    select pg_class.oid::regclass::text as table, rolname as owner,
        format('alter role %%I bypassrls;', rolname) as fix
    from pg_namespace
    join pg_roles on pg_roles.oid = nspowner
    join pg_class on pg_class.oid in (to_regclass(%(source_table)s), to_regclass(%(users_table)s))
    where nspname = 'usersync' and relrowsecurity and not (rolbypassrls or rolsuper)
        and (relforcerowsecurity or not pg_has_role(nspowner, relowner, 'usage'))
    order by 1
"""

_OWNER = "select pg_get_userbyid(nspowner) as owner from pg_namespace where nspname = 'usersync'"


def look(context: Context) -> Plan[Verdict]:
    owner = (yield from query_row(_OWNER))["owner"]
    lacking = yield from query(_LACKING, **context.names, on_delete=context.settings.on_delete)
    unreachable = yield from query(_UNREACHABLE, **context.names)
    blinded = yield from query(_BLINDED, **context.names)
    return Verdict(
        f"{owner} may do all of it",
        tuple(_findings(lacking, unreachable, blinded)),
    )


def _findings(lacking: list[Row], unreachable: list[Row], blinded: list[Row]) -> Iterator[Finding]:
    for row in unreachable:
        yield Finding(
            "D008",
            f"schema {row['schema']}",
            f"{row['owner']} lacks USAGE on schema {row['schema']}",
            row["fix"],
        )
    for row in lacking:
        yield Finding(
            "D008",
            f"table {row['table']}",
            f"{row['owner']} lacks {row['privileges']} on table {row['table']}",
            row["fix"],
        )
    for row in blinded:
        yield Finding(
            "D008",
            f"table {row['table']}",
            f"row-level security on {row['table']} hides rows from {row['owner']}",
            row["fix"],
        )


CHECK = Definition("D008", "Rights of the functions' owner", look)
