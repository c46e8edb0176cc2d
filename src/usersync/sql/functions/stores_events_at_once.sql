-- Whether the audit log stores events as they are inserted: no trigger fires for an INSERT, and no check waits for
-- COMMIT. IMMUTABLE for the reason in stores_rows_unchanged. The triggers of the partitions do not count: PostgreSQL
-- would not plan the call again if one of them were altered.
create or replace function usersync.stores_events_at_once(log regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return not usersync.fires_on_insert(log);
end;
$usersync$;
comment on function usersync.stores_events_at_once(regclass) is
    'usersync: whether the audit log stores events as they are inserted.';
