"""Who else may call our functions or read our tables: asked of the server, not read off access lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan, Row

# service_role may have had the right from PUBLIC alone, and is not to lose it with the others.
_CALLABLE = """
    select
        function.oid::regprocedure::text as object,
        string_agg(grantee.name, ', ' order by grantee.name) as roles,
        format(
            'revoke all on function %s from %s;',
            function.oid::regprocedure,
            string_agg(grantee.name, ', ' order by grantee.name)
        ) || case
            when pronamespace = 'public'::regnamespace and to_regrole('service_role') is not null
            then format(E'\\ngrant execute on function %s to service_role;', function.oid::regprocedure)
            else ''
        end as fix
    from pg_proc as function
    cross join (
        select 'public' as name
        union all select rolname from pg_roles where rolname in ('anon', 'authenticated')
    ) as grantee
    where obj_description(function.oid, 'pg_proc') like 'usersync: %'
        and pronamespace in (select oid from pg_namespace where nspname in ('usersync', 'public'))
        and proowner = (select nspowner from pg_namespace where nspname = 'usersync')  -- else it is for D007
        and has_function_privilege(grantee.name, function.oid, 'execute')
    group by function.oid, pronamespace
    order by 1
"""

_REACHABLE = """
    select object.name as object, string_agg(grantee.name, ', ' order by grantee.name) as roles
    from (
        select 'public' as name
        union all select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    ) as grantee
    cross join lateral (
        select
            'schema usersync' as name,
            has_schema_privilege(grantee.name, 'usersync', 'usage, create') as open
        union all
        select
            'table ' || pg_class.oid::regclass::text,
            has_table_privilege(grantee.name, pg_class.oid, 'select, insert, update, delete, truncate')
                or has_any_column_privilege(grantee.name, pg_class.oid, 'select, insert, update')
        from pg_class
        where relnamespace = 'usersync'::regnamespace and relkind in ('r', 'p', 'v', 'm')
    ) as object
    where object.open
    group by 1
    order by 1
"""

_LOCKED_OUT = """
    select function.oid::regprocedure::text as object
    from pg_proc as function
    join pg_roles on rolname = 'service_role'
    where obj_description(function.oid, 'pg_proc') like 'usersync: %'
        and pronamespace = 'public'::regnamespace
        and proowner = (select nspowner from pg_namespace where nspname = 'usersync')
        and not has_function_privilege(pg_roles.oid, function.oid, 'execute')
    order by 1
"""


def look(context: Context) -> Plan[Verdict]:  # noqa: ARG001 - what is asked does not depend on settings
    reachable = yield from query(_REACHABLE)
    callable_ones = yield from query(_CALLABLE)
    locked_out = yield from query(_LOCKED_OUT)
    return Verdict(
        "service_role may call, nobody else",
        tuple(_findings(reachable, callable_ones, locked_out)),
    )


def _findings(reachable: list[Row], callable_ones: list[Row], locked_out: list[Row]) -> Iterator[Finding]:
    for row in reachable:
        yield Finding(
            "D009",
            row["object"],
            f"{row['roles']} may use {row['object']}",
            f"revoke all on {row['object']} from {row['roles']};",
            safe=True,
        )
    for row in callable_ones:
        yield Finding(
            "D009",
            f"function {row['object']}",
            f"{row['roles']} may call {row['object']}",
            row["fix"],
            safe=True,
        )
    for row in locked_out:
        yield Finding(
            "D009",
            f"function {row['object']}",
            f"service_role may not call {row['object']}, so the Data API cannot",
            f"grant execute on function {row['object']} to service_role;",
            safe=True,
        )


CHECK = Definition("D009", "Rights of the API roles", look)
