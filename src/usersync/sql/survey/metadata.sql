-- The metadata keys that the auth server's users have, from a sample. The sample is the first 1,000 users by id: ids
-- are random, and the primary key has this order. Metadata of more than 64 kB is left out.
with sampled as (
    select source.*
    from "@source_table" as source
    where source."deleted_at" is null
    order by source."id"
    limit 1000
),
entries as (
    select 'user_metadata' as source, entry.key, jsonb_typeof(entry.value) as kind
    from sampled
    cross join lateral jsonb_each(case
        when pg_column_size(sampled."raw_user_meta_data") < 65536
            and jsonb_typeof(sampled."raw_user_meta_data") = 'object' then sampled."raw_user_meta_data"
        else '{}'
    end) as entry
    union all
    select 'app_metadata', entry.key, jsonb_typeof(entry.value)
    from sampled
    cross join lateral jsonb_each(case
        when pg_column_size(sampled."raw_app_meta_data") < 65536
            and jsonb_typeof(sampled."raw_app_meta_data") = 'object' then sampled."raw_app_meta_data"
        else '{}'
    end) as entry
)
select jsonb_build_object(
    'sampled', (select count(*) from sampled),
    'without_email', (select count(*) from sampled where sampled."email" is null),
    'keys', (
        select coalesce(jsonb_agg(jsonb_build_object('source', counted.source, 'key', counted.key, 'times', counted.times)), '[]')
        from (
            select entries.source, entries.key, count(*) as times
            from entries
            where entries.kind <> 'null' and length(entries.key) < 64
            group by entries.source, entries.key
            order by times desc, entries.source, entries.key
            limit 200
        ) as counted
    )
) as metadata
