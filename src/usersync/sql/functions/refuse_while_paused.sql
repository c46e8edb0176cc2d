-- Raises an error while usersync is paused: runs must not write to the users table. Also raises if nothing can be
-- written, see refuse_read_only.
create or replace function usersync.refuse_while_paused() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    pause record;
begin
    perform usersync.refuse_read_only();
    select * into pause from usersync.pause;
    if found then
        raise exception 'usersync is paused since % by %: runs are not allowed to write the users table',
            to_char(pause.paused_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), pause.paused_by
            using errcode = 'US305', hint = 'Run "usersync resume": it ends the pause and syncs the users who changed during it.';
    end if;
end;
$usersync$;
comment on function usersync.refuse_while_paused() is
    'usersync: raises an error while usersync is paused, or if nothing can be written.';
