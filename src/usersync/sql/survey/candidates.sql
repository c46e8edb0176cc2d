-- Tables in which the application may keep its users: they have a column that is unique for itself and takes an id of
-- the auth server's, or refer to its table, or are called so. A constant number of catalog look-ups; no row is read.
with sources as (select to_regclass(%(source_table)s) as oid),
tables as (
    select pg_class.*, nspname
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and not relispartition
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
        bool_or(indisprimary) as is_primary,
        (
            select jsonb_build_object('name', conname, 'on_delete', confdeltype) from pg_constraint
            where conrelid = tables.oid and contype = 'f' and conkey = array[attnum]
                and confrelid = (select sources.oid from sources)
            order by conname limit 1
        ) as reference
    from tables
    join pg_index on indrelid = tables.oid
    join pg_attribute on attrelid = tables.oid and attnum = indkey[0]
    where indisunique and indimmediate and indisvalid and indpred is null and indexprs is null and indnkeyatts = 1
        and atttypid = 'uuid'::regtype and attgenerated = ''
    group by tables.oid, attname, attnum
)
select
    tables.nspname as schema,
    tables.relname as name,
    greatest(tables.reltuples, 0)::bigint as rows,
    coalesce((
        select jsonb_agg(jsonb_build_object(
            'name', keys.name,
            'is_primary', keys.is_primary,
            'reference', keys.reference ->> 'name',
            'on_delete', keys.reference ->> 'on_delete'
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
    ) as refers
from tables
where tables.relname ~* %(usual_names)s
    or exists (
        select from pg_constraint
        where conrelid = tables.oid and contype = 'f' and confrelid = (select sources.oid from sources)
    )
    or format('%%s.%%s', tables.nspname, tables.relname) = any(%(named)s)
order by schema, name
limit 200
