-- Whether usersync is paused. If it is, the transaction locks usersync.pause until it ends. "usersync resume" waits for
-- that lock, so that it sees and syncs every recorded user. Raises nothing. A table that is locked or missing counts as
-- no pause.
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
comment on function usersync.is_paused() is 'usersync: whether usersync is paused.';
