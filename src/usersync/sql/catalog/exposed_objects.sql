-- usersync's own objects that roles other than the owner may use: PUBLIC and the roles of the Data API. Asks the
-- server, so that privileges through role membership count. direct: whether the access list grants the privilege, so
-- that REVOKE removes it. Reads the catalog only.
with grantees as (
    select 'public' as name, 0::oid as oid
    union all
    select rolname, oid from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
),
objects as (
    select 'schema' as kind, 'usersync' as name, nspname as of_schema, oid,
        coalesce(nspacl, acldefault('n', nspowner)) as acl
    from pg_namespace where nspname = 'usersync'
    union all
    select 'table', pg_class.oid::regclass::text, 'usersync', pg_class.oid,
        coalesce(relacl, acldefault('r', relowner)) || array(
            select item from pg_attribute cross join unnest(attacl) as item where attrelid = pg_class.oid
        )
    from pg_class
    where relnamespace = to_regnamespace('usersync') and relkind in ('r', 'p', 'v', 'm')
    union all
    select 'function', pg_proc.oid::regprocedure::text, nspname, pg_proc.oid,
        coalesce(proacl, acldefault('f', proowner))
    from pg_proc
    join pg_namespace on pg_namespace.oid = pronamespace
    -- The first condition is cheap. PostgreSQL would read the comments of its 3,000 functions without it.
    where pronamespace = any(array(select oid from pg_namespace where nspname in ('usersync', 'public')))
        and obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %'
        -- Any role can write such a comment on its own function.
        and (nspname = 'usersync' or proname in ('@public_functions'))
        and proowner in (
            quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync'))
),
used as (
    select objects.*, grantees.name as grantee, grantees.oid as grantee_oid
    from objects
    cross join grantees
    -- service_role is meant to call the functions in "public".
    where (objects.kind <> 'function' or grantees.name <> 'service_role')
        and not (objects.kind = 'function' and grantees.name = 'authenticated'
            and objects.oid in (select to_regprocedure(name) from unnest(array['@reader_functions']::text[]) as name))
        and case objects.kind
            when 'schema' then has_schema_privilege(grantees.name, objects.oid, 'usage, create')
            when 'function' then has_function_privilege(grantees.name, objects.oid, 'execute')
            else has_table_privilege(grantees.name, objects.oid, 'select, insert, update, delete, truncate')
                or has_any_column_privilege(grantees.name, objects.oid, 'select, insert, update')
        end
)
select
    used.kind,
    used.name,
    used.of_schema,
    array_agg(used.grantee order by used.grantee) as roles,
    bool_or(exists (
        select from aclexplode(used.acl) as granted where granted.grantee in (0, used.grantee_oid)
    )) as direct
from used
group by used.kind, used.name, used.of_schema
order by used.kind desc, used.name
