-- Tries these users of the failures table again, and stores the events that it keeps. A deletion that a trigger could
-- not apply is applied if the user is still deleted or soft-deleted.
create or replace function usersync.retry_users(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    removals uuid[] := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.user_id = any(ids) and failure.kind = 'removal'
    );
begin
    perform usersync.sync_on_request(removals, 'RETRY', true);
    perform usersync.sync_on_request(array(select unnest(ids) except select unnest(removals)), 'RETRY');
    perform usersync.record_kept_events(ids);
end;
$usersync$;
comment on function usersync.retry_users(uuid[]) is
    'usersync: tries these users of the failures table again, deletions included.';
