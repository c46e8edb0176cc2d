-- Syncs users for an explicit call or for the reconciler (fired_by = PAGE), in whichever transaction that is. In the
-- application's it leaves nothing behind but what it wrote: what sync_users notes for the rest of the transaction is
-- meant for the auth server's.
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
    'usersync: syncs users for an explicit call, in its caller''s transaction.';
