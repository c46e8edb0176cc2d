-- Whether the triggers are paused. A transaction that is told so holds a lock on the table of pauses until it ends, for
-- which "usersync resume" waits: what the transaction notes is then seen, and synced. Raises nothing; a table that is
-- locked or missing pauses nothing.
create or replace function usersync.is_paused() returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '10ms'
as $usersync$
begin
    if not exists (select from usersync.pause) then
        return false;
    end if;
    lock table usersync.pause in row share mode;
    return exists (select from usersync.pause);
exception when others then
    return false;
end;
$usersync$;
comment on function usersync.is_paused() is
    'usersync: whether the triggers are paused.';
