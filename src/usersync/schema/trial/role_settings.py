"""PostgreSQL settings of the database and of roles, and the statement that resets each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Row, Steps

# The order: a role in this database, the role, the database, the server. For the auth server's role, which
# owns its table, and for ours.
_IN_FORCE = """
    select distinct on (login.oid)
        login.rolname as role,
        login.oid = auth_server.oid as is_auth_server,
        found.value,
        found.origin,
        case
            when me.rolsuper
                or %(name)s <> 'session_replication_role' and (
                    found.weight >= 2 and login.rolname = current_user
                    or found.weight = 1 and pg_has_role((
                        select datdba from pg_database where datname = current_database()
                    ), 'USAGE')
                )
            then found.fix
            else E'-- As a superuser, on Supabase by a request to its support:\n' || found.fix
        end as fix
    from pg_roles as login
    join pg_roles as me on me.rolname = current_user
    cross join lateral (
        select
            substring(setting from strpos(setting, '=') + 1) as value,
            (stored.setrole <> 0)::integer * 2 + (stored.setdatabase <> 0)::integer as weight,
            concat_ws(' in ', nullif('role ' || pg_get_userbyid(nullif(stored.setrole, 0)), 'role '),
                'database ' || (select datname from pg_database where oid = stored.setdatabase)) as origin,
            case
                when stored.setrole <> 0 then format('alter role %%I', login.rolname)
                    || (select coalesce(max(format(' in database %%I', datname)), '')
                        from pg_database where oid = stored.setdatabase)
                when stored.setdatabase <> 0 then format('alter database %%I', current_database())
                else 'alter role all'
            end || format(' reset %%I;', %(name)s::text) as fix
        from pg_db_role_setting as stored
        cross join unnest(stored.setconfig) as setting
        where stored.setrole in (0, login.oid)
            and stored.setdatabase in (0, (select oid from pg_database where datname = current_database()))
            and split_part(setting, '=', 1) = %(name)s
        union all
        select setting || coalesce(unit, ''), -1, source,
            format('alter system reset %%I; select pg_reload_conf();', name)
        from pg_settings
        where name = %(name)s
            and source in ('default', 'configuration file', 'environment variable', 'command line')
    ) as found
    cross join (select relowner as oid from pg_class where oid = to_regclass(%(source_table)s)) as auth_server
    where login.oid = auth_server.oid or login.rolname = current_user
    order by login.oid, found.weight desc
"""


def settings_in_force(settings: Settings, name: str) -> Steps[list[Row]]:
    """The initial value of a setting for the auth server's role and for ours, and its origin."""
    return (yield from query(_IN_FORCE, name=name, source_table=settings.source_table.quoted))
