"""Missing privileges of the auth server's role, from the catalog: for a trial that runs as another role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.core.privileges import missing_privileges
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps

# By the keywords before a name in the text. Dynamic SQL is missed.
_LACKING = r"""
    with auth_server as (
        select relowner as role from pg_class where oid = to_regclass(%(source_table)s)
    ),
    triggers as (
        select tgname, pg_proc.oid::regprocedure::text as function, lower(regexp_replace(
            coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc), '--[^\n]*|/\*.*?\*/', ' ', 'g'
        )) as body
        from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        where tgrelid = to_regclass(%(source_table)s)
            and not tgisinternal and tgenabled <> 'D' and not prosecdef
    ),
    named as (
        select distinct tgname, function, verb.name as verb, coalesce(
            to_regclass(case when position('.' in match[2]) > 0 then match[2] end),
            to_regclass('public.' || case when position('.' in match[2]) = 0 then match[2] end)
        ) as relation
        from triggers
        cross join regexp_matches(
            body,
            '\m(insert\s+into|update|delete\s+from|from|join)\s+((?:\w+|"[^"]+")(?:\.(?:\w+|"[^"]+"))?)',
            'g'
        ) as match
        cross join lateral (
            select case left(match[1], 6) when 'insert' then 'insert' when 'update' then 'update'
                when 'delete' then 'delete' else 'select' end as name
        ) as verb
    ),
    lacking as (
        select tgname, function, verb, relation, relnamespace::regnamespace::text as home,
            auth_server.role::regrole::text as role,
            has_schema_privilege(auth_server.role, relnamespace, 'usage') as reaches,
            has_any_column_privilege(auth_server.role, relation, replace(verb, 'delete', 'select'))
                and (verb <> 'delete' or has_table_privilege(auth_server.role, relation, 'delete')) as may,
            relrowsecurity and not (rolbypassrls or rolsuper)
                and (relforcerowsecurity or not pg_has_role(auth_server.role, relowner, 'usage'))
                and not exists (
                    select from pg_policy
                    where polrelid = relation and (0 = any(polroles) or auth_server.role = any(polroles))
                        and polcmd in ('*', case verb when 'insert' then 'a' when 'update' then 'w'
                            when 'delete' then 'd' else 'r' end::"char")
                ) as hidden
        from named
        cross join auth_server
        join pg_class on pg_class.oid = named.relation
        join pg_roles on pg_roles.oid = auth_server.role
    )
    select
        'trigger ' || tgname as subject,
        format('the trigger %%s runs %%s with the privileges of %%s, who %%s', tgname, function, role, case
            when not reaches then format('lacks USAGE on schema %%s', home)
            when not may then format('lacks %%s on table %%s', upper(verb), relation)
            else format('no policy of %%s lets %%s', relation, upper(verb)) end
        ) as detail,
        format(E'-- Or let it run as its owner: alter function %%s security definer;\n%%s', function, case
            when not reaches then format('grant usage on schema %%s to %%s;', home, role)
            when not may then format('grant %%s on table %%s to %%s;', verb, relation, role)
            else format('-- Or: create policy auth_server on %%s for %%s to %%s …', relation, verb, role) end
        ) as fix
    from lacking
    where not reaches or not may or hidden
    order by 1
"""


def lacking_rights(settings: Settings) -> Steps[tuple[Finding, ...]]:
    """Privileges that the auth server's role lacks, as far as the catalog and the triggers' texts show."""
    missing = yield from missing_privileges(settings)
    of_triggers = yield from query(_LACKING, source_table=settings.source_table.quoted)
    return (
        *(
            Finding("D033", each.subject, str(each), each.fix)
            for each in missing
            if each.part == "auth server"
        ),
        *(Finding("D033", row["subject"], row["detail"], row["fix"]) for row in of_triggers),
    )
