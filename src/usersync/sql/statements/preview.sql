-- What the first run would find: users without a row, rows whose values would change and in which columns, and rows of
-- deleted users, unless the settings keep them. Reads both tables once and works before the installation.
with compared as materialized (
    select
        target."@key" is null as is_missing,
        '@is_expected' as is_expected,
        source."id" is null and '@on_delete' <> 'keep' as is_orphaned,
        source."deleted_at" is not null as is_soft_deleted,
        found.differing,
        case when cardinality(found.differing) > 0 then array(
            select name from unnest(found.differing) as name where to_jsonb(target) ->> name is null
        ) end as empty
    from "@source_table" as source
    full join (
        select target.* from "@users_table" as target where target."@key" is not null and ('@is_user_row')
    ) as target on target."@key" = source."id"::"@key_type"
    cross join (select ('@column_defaults') as defaults) as known
    cross join lateral (
        select case
            when target."@key" is not null and source."id" is not null and source."deleted_at" is null
            then array_remove(array['@differing_columns']::text[], null)
        end as differing
    ) as found
)
select
    count(*) filter (where is_missing and not is_soft_deleted and is_expected) as missing,
    count(*) filter (where cardinality(differing) > cardinality(empty)) as stale,
    count(*) filter (where cardinality(empty) > 0) as filled,
    count(*) filter (where is_orphaned) as orphaned,
    count(*) filter (where is_soft_deleted and not is_missing and '@on_soft_delete' <> 'keep') as deleted_upstream,
    (
        select coalesce(jsonb_object_agg(counted.column_name, counted.times), '{}')
        from (
            select differs.column_name, count(*) as times
            from compared
            cross join unnest(differing) as differs (column_name)
            where differs.column_name <> all (empty)
            group by differs.column_name
        ) as counted
    ) as columns,
    (
        select coalesce(jsonb_object_agg(counted.column_name, counted.times), '{}')
        from (
            select fills.column_name, count(*) as times
            from compared
            cross join unnest(empty) as fills (column_name)
            group by fills.column_name
        ) as counted
    ) as filled_columns
from compared
