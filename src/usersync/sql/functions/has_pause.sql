-- Whether there is a pause, for the trigger that a sign-up waits for: IMMUTABLE for the reason that stores_rows_unchanged
-- gives. pause_triggers and resume_triggers alter the table of pauses, after which PostgreSQL plans such statements anew.
-- Elsewhere ask is_paused, which holds the pause against its end.
create or replace function usersync.has_pause(pause_table regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return (select is_paused from usersync.read_catalog(pause_table));
end;
$usersync$;
comment on function usersync.has_pause(regclass) is
    'usersync: whether there is a pause, as of when a statement is planned.';
