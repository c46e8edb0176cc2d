-- The columns, constraints and types of a table, for a proposed mapping. Reads the catalog only.
select jsonb_build_object(
    'rows', greatest(reltuples, 0)::bigint,
    -- The table's checks and types run code of its owner.
    'is_ours', pg_has_role(relowner, 'USAGE'),
    'columns', (
        select jsonb_agg(jsonb_build_object(
            'name', attname,
            'type', format_type(atttypid, atttypmod),
            -- The type's name in the settings, if the type is not one of PostgreSQL's own.
            'type_schema', case when own.typnamespace <> 'pg_catalog'::regnamespace then type_namespace.nspname end,
            'type_name', own.typname,
            'is_array', element.oid is not null,
            'category', coalesce(element.typcategory, pg_type.typcategory),
            'labels', array(select enumlabel from pg_enum where enumtypid = own.oid order by enumsortorder),
            'refuses_null', attnotnull or pg_type.typnotnull,
            'default', case when attgenerated = '' then coalesce(pg_get_expr(adbin, adrelid), pg_type.typdefault) end,
            'by_itself', case
                when attgenerated <> '' then 'generated'
                when attidentity <> '' then 'an identity'
            end,
            'in_primary_key', exists (
                select from pg_index where indrelid = pg_class.oid and indisprimary and attnum = any(indkey)
            ),
            'comment', col_description(attrelid, attnum),
            'is_unique', exists (
                select from pg_index
                where indrelid = pg_class.oid and indisunique and indnkeyatts = 1
                    and (indkey[0] = attnum or indexprs is not null and exists (
                        select from pg_depend
                        where classid = 'pg_class'::regclass and objid = indexrelid
                            and refobjid = pg_class.oid and refobjsubid = attnum
                    ))
            ),
            'refers_to', (
                select confrelid::regclass::text from pg_constraint
                where conrelid = pg_class.oid and contype = 'f' and attnum = any(conkey)
                order by conname limit 1
            )
        ) order by attnum)
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        left join pg_type as element on element.oid = pg_type.typelem and pg_type.typcategory = 'A'
        join pg_type as own on own.oid = coalesce(element.oid, pg_type.oid)
        join pg_namespace as type_namespace on type_namespace.oid = own.typnamespace
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    ),
    'constraints', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', conname,
            'kind', contype,
            'definition', pg_get_constraintdef(pg_constraint.oid),
            'columns', array(
                select attname from pg_attribute where attrelid = conrelid and attnum = any(conkey) order by attnum
            ),
            'deferred', condeferred
        ) order by conname), '[]')
        from pg_constraint
        where conrelid = pg_class.oid and (contype in ('c', 'u', 'x') or condeferred)
    )
) as about
from pg_class
where pg_class.oid = to_regclass(%(users_table)s)
