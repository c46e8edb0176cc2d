-- Whether usersync is paused, for the trigger on INSERT. IMMUTABLE for the reason in stores_rows_unchanged.
-- pause_triggers and resume_triggers alter the table usersync.pause, so that PostgreSQL plans these calls again. All
-- other code calls is_paused, which also locks the table.
create or replace function usersync.has_pause(pause_table regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return (select is_paused from usersync.read_catalog(pause_table));
end;
$usersync$;
comment on function usersync.has_pause(regclass) is
    'usersync: whether usersync is paused, as of when a statement is planned.';
