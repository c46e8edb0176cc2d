-- Every foreign key that references the auth server's table or the users table, directly or through other tables. A
-- partitioned table's key is listed once, not for each partition. Reads the catalog only.
with recursive reached as (
    select unnest(array[to_regclass('@source_table'), to_regclass('@users_table')])::oid as oid
    union
    select conrelid from reached join pg_constraint on confrelid = reached.oid
    where contype = 'f' and conparentid = 0
)
select
    pg_constraint.oid::bigint as id,
    conname::text as name,
    conrelid::bigint as child,
    confrelid::bigint as parent,
    conrelid::regclass::text as child_name,
    confrelid::regclass::text as parent_name,
    child.relnamespace::regnamespace::text as child_schema,
    confdeltype::text as action,
    confupdtype::text as update_action,
    greatest(child.reltuples, 0)::bigint as estimated_rows,
    child_columns.names as columns,
    parent_columns.names as parent_columns,
    parent_columns.types as parent_types,
    operators.names as operators,
    coalesce(child_columns.not_null, '{}') as not_null,
    coalesce(child_columns.refusing, '{}') as refusing,
    convalidated as validated,
    concat(
        case confmatchtype when 'f' then ' match full' end,
        case confupdtype
            when 'c' then ' on update cascade' when 'r' then ' on update restrict'
            when 'n' then ' on update set null' when 'd' then ' on update set default'
        end
    ) as before_action,
    concat(
        case when condeferrable then ' deferrable' end, case when condeferred then ' initially deferred' end
    ) as after_action,
    has_table_privilege(conrelid, 'SELECT') and has_schema_privilege(child.relnamespace, 'USAGE') as readable,
    exists (
        select from pg_index
        where indrelid = conrelid and indisvalid and indexprs is null
            and (indpred is null or pg_get_expr(indpred, indrelid) ~ '^\([^()]* IS NOT NULL\)$')
            and conkey <@ (indkey[0:cardinality(conkey) - 1])::smallint[]
    ) as indexed
from pg_constraint
join pg_class as child on child.oid = conrelid
-- Since PostgreSQL 15, ON DELETE SET NULL may name some of the columns.
cross join lateral (
    select case jsonb_typeof(to_jsonb(pg_constraint) -> 'confdelsetcols') when 'array' then array(
        select jsonb_array_elements_text(to_jsonb(pg_constraint) -> 'confdelsetcols')::smallint
    ) end as numbers
) as set_null
cross join lateral (
    select array_agg(attname::text order by turn) as names,
        array_agg(attname::text order by turn) filter (where attnotnull) as not_null,
        array_agg(attname::text order by turn) filter (
            where attnotnull and coalesce(attnum = any(set_null.numbers), true)
        ) as refusing
    from unnest(conkey) with ordinality as part (number, turn)
    join pg_attribute on attrelid = conrelid and attnum = number
) as child_columns
cross join lateral (
    select array_agg(attname::text order by turn) as names,
        array_agg(format_type(atttypid, atttypmod) order by turn) as types
    from unnest(confkey) with ordinality as part (number, turn)
    join pg_attribute on attrelid = confrelid and attnum = number
) as parent_columns
cross join lateral (
    select array_agg(format('operator(%I.%s)', nspname, oprname) order by turn) as names
    from unnest(conpfeqop) with ordinality as part (number, turn)
    join pg_operator on pg_operator.oid = number
    join pg_namespace on pg_namespace.oid = oprnamespace
) as operators
where contype = 'f' and conparentid = 0 and confrelid in (select oid from reached)
order by confrelid::regclass::text, conrelid::regclass::text, conname
