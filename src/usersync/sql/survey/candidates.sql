-- Tables that may contain the application's users: with a column that can hold an auth user's id (unique, of type uuid
-- or text), with a foreign key to the auth server's table, or with a usual name. Reads the catalog only.
with sources as (select to_regclass(%(source_table)s) as oid),
tables as (
    select pg_class.*, nspname, format('%%s.%%s', nspname, relname) as full_name
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and not relispartition and pg_class.oid is distinct from (select sources.oid from sources)
        and nspname !~ '^(pg_|information_schema$|auth$|storage$|realtime$|vault$|graphql|net$|cron$|extensions$|usersync$|supabase)'
        and not exists (
            select from pg_depend
            where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
        )
),
keys as (
    select
        tables.oid as relid,
        attname as name,
        format_type(atttypid, atttypmod) as type,
        bool_or(indisprimary) as is_primary,
        (
            select jsonb_build_object('name', conname, 'on_delete', confdeltype) from pg_constraint
            where conrelid = tables.oid and contype = 'f' and conkey = array[attnum]
                and confrelid = (select sources.oid from sources)
            order by conname limit 1
        ) as reference,
        array(
            select parents.full_name from pg_constraint
            join tables as parents on parents.oid = confrelid
            where conrelid = tables.oid and contype = 'f' and conkey = array[attnum] and confrelid <> tables.oid
            order by 1
        ) as parents
    from tables
    join pg_index on indrelid = tables.oid
    join pg_attribute on attrelid = tables.oid and attnum = indkey[0]
    where indisunique and indimmediate and indisvalid and indpred is null and indexprs is null and indnkeyatts = 1
        and (atttypid in ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
            or format_type(atttypid, -1) ~ '(^|\.)citext$')
        and attgenerated = ''
    group by tables.oid, attname, attnum, atttypid, atttypmod
)
select
    tables.nspname as schema,
    tables.relname as name,
    greatest(tables.reltuples, 0)::bigint as rows,
    coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', keys.name,
            'type', keys.type,
            'is_primary', keys.is_primary,
            'reference', keys.reference ->> 'name',
            'on_delete', keys.reference ->> 'on_delete',
            'parents', keys.parents
        ) order by keys.name)
        from keys where keys.relid = tables.oid
    ), '[]') as keys,
    array(
        select attname::text
        from pg_index
        cross join unnest(indkey[:indnkeyatts - 1]) with ordinality as part (number, turn)
        join pg_attribute on attrelid = tables.oid and attnum = part.number
        where indrelid = tables.oid and indisprimary
        order by turn
    ) as primary_key,
    (
        select count(*) from pg_constraint
        where confrelid = tables.oid and contype = 'f' and conrelid <> tables.oid
    ) as referrers,
    exists (
        select from pg_constraint
        where conrelid = tables.oid and contype = 'f' and confrelid = (select sources.oid from sources)
    ) as refers,
    -- A policy that applies to this role would run its author's code.
    has_table_privilege(tables.oid, 'SELECT') and has_schema_privilege(tables.relnamespace, 'USAGE')
        and not row_security_active(tables.oid) as is_readable
from tables
where tables.relname ~* %(usual_names)s
    or exists (
        select from pg_constraint
        where conrelid = tables.oid and contype = 'f' and confrelid = (select sources.oid from sources)
    )
    or exists (select from keys where keys.relid = tables.oid)
    or tables.full_name = any(%(named)s)
order by
    tables.full_name = any(%(named)s) desc, refers desc, tables.relname ~* %(usual_names)s desc, referrers desc, schema, name
limit 200
