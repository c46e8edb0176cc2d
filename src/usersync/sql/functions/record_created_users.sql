-- Records user.created for these users, in the transaction that creates their rows. backfill: the user signed up before
-- usersync was installed, so that the row is not the sign-up's. more: further metadata.
create or replace function usersync.record_created_users(ids uuid[], more jsonb, fired_by text) returns void
language plpgsql
set search_path = pg_catalog, "@pinned"
as $usersync$
#variable_conflict use_column
declare
    with_values boolean := usersync.records_user_events(true);
    installed_at timestamptz;
    details jsonb[];
begin
    if fired_by is distinct from 'INSERT' then
        installed_at := (select min(applied_at) from usersync.schema_version);
    end if;
    if installed_at is not null or with_values or more is not null then
        details := array(
            select jsonb_build_object('metadata', coalesce(more, '{}') || case
                when (select source."created_at" < installed_at from "@source_table" as source where source."id" = created.id)
                then jsonb '{"backfill": true}'
                else '{}'
            end) || case when with_values then coalesce((
                select jsonb_build_object('changes', jsonb_object_agg(
                    entry.key, jsonb_build_array(null, case
                        when entry.key = any(array['@secret_columns']::text[]) then '"[redacted]"' else entry.value
                    end)
                ))
                from "@users_table" as target
                cross join lateral jsonb_each('@mapped_row') as entry
                where target."@key" = created.id::"@key_type" and entry.value <> 'null'
            ), '{}') else '{}' end
            from unnest(ids) with ordinality as created (id, position)
            order by created.position
        );
    end if;
    perform usersync.record_user_events('user.created', ids, details, true, fired_by);
end;
$usersync$;
comment on function usersync.record_created_users(uuid[], jsonb, text) is
    'usersync: records the event user.created for these users.';
