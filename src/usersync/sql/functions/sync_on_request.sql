-- Syncs users for an explicit call or for a run (fired_by = PAGE). In a transaction of the application it restores the
-- setting that sync_users leaves for the rest of an auth server's transaction.
create or replace function usersync.sync_on_request(
    ids uuid[], fired_by text default null, applies_deletions boolean default false
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    has_waited text := coalesce(current_setting('usersync.has_waited', true), '');
begin
    perform usersync.sync_users(ids, fired_by, usersync.owns_transaction(), applies_deletions);
    perform set_config('usersync.has_waited', has_waited, true);
end;
$usersync$;
comment on function usersync.sync_on_request(uuid[], text, boolean) is
    'usersync: syncs users for an explicit call, in the caller''s transaction.';
