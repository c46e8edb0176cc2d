-- The given tables in the catalog, and usersync's triggers on each. Reads the catalog only.
select jsonb_build_object(
    'role', current_user,
    'installed', to_regclass('usersync.audit_rejects') is not null,
    'has_log', '@audit_log' is not null,
    'schema_is_ours', pg_has_role((select nspowner from pg_namespace where nspname = 'usersync'), 'USAGE'),
    'exists', tracked.oid is not null,
    'kind', relation.relkind,
    'persistence', relation.relpersistence,
    'is_partition', relation.relispartition,
    -- Without pg_partition_tree(), which locks partitions before their table. All other code locks in the reverse
    -- order.
    'is_audit_table', '@audit_log' in (tracked.oid, pg_partition_root(tracked.oid)),
    'has_children', relation.relhassubclass,
    'owner', pg_get_userbyid(relation.relowner),
    'owner_is_ours', pg_has_role(relation.relowner, 'USAGE') or
        (select rolsuper from pg_roles where oid = relation.relowner),
    'may_track', has_table_privilege(tracked.oid, 'TRIGGER'),
    'deferred_on_log', (
        select coalesce(jsonb_agg(conname order by conname), '[]') from pg_constraint
        where conrelid = '@audit_log' and condeferrable and condeferred
    ),
    'columns', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', attname,
            'form', '@column_form',
            'type', format_type(coalesce(nullif(base.typbasetype, 0), base.oid), null),
            'built_in', base.oid < 16384,
            'fixed', base.typlen > 0,
            'category', base.typcategory,
            'exact_collation', coalesce((
                select collisdeterministic from pg_collation where pg_collation.oid = attcollation
            ), true),
            'required', attnotnull,
            'virtual', attgenerated = 'v'
        ) order by attnum), '[]')
        from pg_attribute
        cross join lateral (
            -- A domain over a domain ends at a base type. LATERAL with OFFSET 0, because a join would read all of
            -- pg_type for each column.
            with recursive based as (
                select pg_type.* from pg_type where pg_type.oid = atttypid
                union all
                select next.* from based
                cross join lateral (select * from pg_type where pg_type.oid = based.typbasetype offset 0) as next
                where based.typtype = 'd'
            )
            select * from based where typtype <> 'd'
        ) as base
        where attrelid = tracked.oid and attnum > 0 and not attisdropped
    ),
    'key', (
        select jsonb_build_object('primary', indisprimary, 'columns', (
            select jsonb_agg(attname order by place)
            from unnest(indkey[:indnkeyatts - 1]) with ordinality as part (number, place)
            join pg_attribute on attrelid = tracked.oid and attnum = number
        ))
        from pg_index
        where indrelid = tracked.oid and indisunique and indisvalid and indpred is null and indexprs is null
            and not exists (
                select from unnest(indkey[:indnkeyatts - 1]) as number
                join pg_attribute on attrelid = tracked.oid and attnum = number
                where not attnotnull
            )
        order by indisprimary desc, indisreplident desc, indexrelid
        limit 1
    ),
    'triggers', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'name', tgname,
            'enabled', tgenabled,
            'type', tgtype,
            'function', proname,
            'comment', obj_description(pg_proc.oid, 'pg_proc'),
            'body', prosrc,
            'definer', prosecdef,
            'config', coalesce(to_jsonb(proconfig), '[]')
        ) order by tgname), '[]')
        from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        where tgrelid = tracked.oid and not tgisinternal
            and (tgname like 'usersync\_%' or (
                pronamespace = to_regnamespace('usersync') and proname like 'handle\_changes\_%'))
    )
) as state, tracked.oid::bigint as oid
from unnest('@tracked_tables'::text[]) with ordinality as wanted (name, position)
cross join lateral (select to_regclass(wanted.name)::oid as oid) as tracked
left join pg_class as relation on relation.oid = tracked.oid
order by wanted.position
