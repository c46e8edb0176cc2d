-- Syncs one user. applies_deletions: also applies the user's deletion. known: whether either table has the user. alive:
-- whether the auth server has the user and has not soft-deleted the user.
create or replace function usersync.sync_user(user_id uuid, applies_deletions boolean, out known boolean, out alive boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    perform usersync.sync_on_request(array[user_id], null, applies_deletions);
    sync_user.alive := exists (
        select from "@source_table" as source where source."id" = sync_user.user_id and source."deleted_at" is null
    );
    sync_user.known := alive or usersync.user_exists(user_id)
        or exists (select from "@source_table" as source where source."id" = sync_user.user_id);
end;
$usersync$;
comment on function usersync.sync_user(uuid, boolean) is 'usersync: syncs one user.';
