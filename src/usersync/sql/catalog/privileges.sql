-- The missing privileges of this role, which installs and syncs; of the owner of the schema usersync, as whom the
-- functions run; and of the auth server's role. If this role cannot grant a privilege, the fix names a role that can.
-- Reads the catalog only.
with parts as (
    select 'this role' as part, oid, rolname, rolsuper, rolbypassrls from pg_roles where rolname = current_user
    union all
    select 'owner', pg_roles.oid, rolname, rolsuper, rolbypassrls
    from pg_namespace join pg_roles on pg_roles.oid = nspowner where nspname = 'usersync'
    union all
    select 'auth server', pg_roles.oid, rolname, rolsuper, rolbypassrls
    from pg_class join pg_roles on pg_roles.oid = relowner where pg_class.oid = to_regclass('@source_table')
),
wanted as (
    -- usersync never updates the auth server's table. PostgreSQL requires UPDATE to lock a row.
    select to_regclass('@source_table') as relation, part, privilege
    from (values
        ('this role', '{SELECT,UPDATE,TRIGGER}'::text[]), ('owner', '{SELECT,UPDATE}'),
        ('auth server', '{SELECT,INSERT,UPDATE,DELETE}')
    ) as of_source (part, list)
    cross join unnest(list) as privilege
    union all
    select to_regclass('@users_table'), part, privilege
    from (values ('this role'), ('owner')) as role (part)
    cross join unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as privilege
    where privilege <> 'DELETE' or 'delete' in ('@on_delete', '@on_soft_delete')
    union all
    select '@audit_log', part, privilege
    from (values ('this role'), ('owner')) as role (part)
    cross join unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as privilege
    -- In an application's own audit log usersync only inserts rows. In the log that usersync created, the foreign key,
    -- retention and erasure also change rows.
    where case
        when obj_description('@audit_log', 'pg_class') like 'The audit log, made by usersync: %'
        then part = 'owner'
        else privilege in ('SELECT', 'INSERT')
    end
    union all
    select oid, 'owner', privilege
    from pg_class
    cross join unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as privilege
    where relnamespace = to_regnamespace('usersync') and relkind in ('r', 'p') and not relispartition
),
missing as (
    select part, rolname, 10 as turn, 'CREATE on database ' || current_database() as what,
        'database ' || current_database() as subject,
        format('grant create on database %I to %I;', current_database(), rolname) as fix,
        (select datdba from pg_database where datname = current_database()) as grantor
    from parts
    where part = 'this role' and (to_regnamespace('usersync') is null or to_regnamespace('@users_schema') is null)
        and not has_database_privilege(parts.oid, current_database(), 'CREATE')
    union all
    select part, rolname, 20, 'ownership of schema usersync', 'schema usersync',
        format('-- Connect as %I, or: grant %1$I to %2$I;', pg_get_userbyid(nspowner), rolname), null
    from parts join pg_namespace on nspname = 'usersync'
    where part = 'this role' and not pg_has_role(parts.oid, nspowner, 'USAGE')
    union all
    select part, rolname, 25, 'ownership of table ' || pg_class.oid::regclass, 'table ' || pg_class.oid::regclass,
        format('alter table %s owner to %I;', pg_class.oid::regclass, rolname), relowner
    from parts join pg_class on pg_class.oid = '@audit_log'
    where part = 'owner' and not pg_has_role(parts.oid, relowner, 'USAGE')
        and obj_description(pg_class.oid, 'pg_class') like 'The audit log, made by usersync: %'
    union all
    select part, rolname, 30, 'CREATE on schema ' || nspname, 'schema ' || nspname,
        format('grant create on schema %I to %I;', nspname, rolname), nspowner
    from parts
    join pg_namespace on nspname = 'public'
        or pg_namespace.oid = to_regnamespace('@users_schema') and to_regclass('@users_table') is null
    where part = 'this role' and not has_schema_privilege(parts.oid, pg_namespace.oid, 'CREATE')
    union all
    select part, rolname, 40, 'USAGE on schema ' || nspname, 'schema ' || nspname,
        format('grant usage on schema %I to %I;', nspname, rolname), nspowner
    from parts
    join pg_namespace on pg_namespace.oid in (
        select relnamespace from pg_class
        where pg_class.oid in (to_regclass('@source_table'), to_regclass('@users_table'), '@audit_log')
    )
    where part = 'owner' and not has_schema_privilege(parts.oid, pg_namespace.oid, 'USAGE')
    union all
    select part, rolname, 50, string_agg(wanted.privilege, ', ' order by wanted.privilege) || ' on table ' || pg_class.oid::regclass,
        'table ' || pg_class.oid::regclass,
        format('grant %s on table %s to %I;', lower(string_agg(wanted.privilege, ', ' order by wanted.privilege)), pg_class.oid::regclass, rolname),
        relowner
    from parts
    join wanted using (part)
    join pg_class on pg_class.oid = wanted.relation
    where not has_table_privilege(parts.oid, pg_class.oid, wanted.privilege)
    group by part, rolname, pg_class.oid, relowner
    union all
    select part, rolname, 60, 'USAGE on type usersync.audit_event', 'type usersync.audit_event',
        format('grant usage on type usersync.audit_event to %I;', rolname), typowner
    from parts join pg_type on pg_type.oid = to_regtype('usersync.audit_event')
    where part = 'owner' and not has_type_privilege(parts.oid, pg_type.oid, 'USAGE')
    union all
    select part, rolname, 70, 'BYPASSRLS (row-level security on ' || pg_class.oid::regclass || ' would hide rows)',
        'table ' || pg_class.oid::regclass, format('alter role %I bypassrls;', rolname),
        (select oid from pg_roles where rolsuper order by oid limit 1)
    from parts
    join pg_class on pg_class.oid in (to_regclass('@source_table'), to_regclass('@users_table'))
    where part <> 'auth server' and relrowsecurity and not (rolbypassrls or rolsuper)
        and (relforcerowsecurity or not pg_has_role(parts.oid, relowner, 'USAGE'))
)
select
    missing.part,
    missing.rolname::text as role,
    missing.what,
    missing.subject,
    case
        when missing.grantor is null or pg_has_role(missing.grantor, 'USAGE')
            or (select rolsuper from pg_roles where rolname = current_user)
        then missing.fix
        else format(E'-- As %s, or a superuser:\n%s', pg_get_userbyid(missing.grantor), missing.fix)
    end as fix
from missing
order by missing.part, missing.turn, missing.what
