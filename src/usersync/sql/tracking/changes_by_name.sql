(
    select
        coalesce(n.identity, o.identity) as entity_id,
        case when o.identity <> n.identity then o.identity end as previous_entity_id,
        coalesce(differing.changes, '{}') as changes
    from "@old_bodies" as o
    full join "@new_bodies" as n on n.place = o.place
    cross join lateral (
        select jsonb_object_agg(pair.name, jsonb_build_array(
            case
                when pair.old_value is null then null
                when pair.is_secret then '"[redacted]"'
                when length(pair.old_value::text) > '@text_limit' then to_jsonb('@old_cut')
                else pair.old_value
            end,
            case
                when pair.new_value is null then null
                when pair.is_secret then '"[redacted]"'
                when length(pair.new_value::text) > '@text_limit' then to_jsonb('@new_cut')
                else pair.new_value
            end
        )) as changes
        from (
            select
                name, nullif(o.body -> name, 'null') as old_value, nullif(n.body -> name, 'null') as new_value,
                '@is_secret' as is_secret
            from jsonb_object_keys(coalesce(n.body, o.body)) as name
            where '@is_tracked'
        ) as pair
        where pair.old_value is distinct from pair.new_value
    ) as differing
    where differing.changes is not null or '@records_unchanged'
) as changed
