-- The mapped columns of the rows of these users, which record_row_changes compares later. Locks the rows, so that no
-- other session changes them in between: as in write_full_rows, the auth server's rows first.
create or replace function usersync.user_rows(
    ids uuid[], source_is_locked boolean, out user_ids uuid[], out stored jsonb[]
)
language plpgsql
set search_path = pg_catalog, "@pinned"
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
begin
    if not source_is_locked then
        perform from "@source_table" as source where source."id" = any(user_rows.ids) for key share;
    end if;
    perform from "@users_table" as target where target."@key" = any(user_rows.ids::"@key_type"[]) for no key update;
    select array_agg(target."@key"::uuid), array_agg('@mapped_row') into user_ids, stored
    from "@users_table" as target
    where target."@key" = any(user_rows.ids::"@key_type"[]) and ('@is_user_row');
end;
$usersync$;
comment on function usersync.user_rows(uuid[], boolean) is
    'usersync: locks the rows of these users, and returns their mapped columns.';
