-- Whether there is a pause, for the trigger that a sign-up waits for: IMMUTABLE, though it reads a table, so that its call
-- with a constant of type regclass is computed when a statement is planned, and costs a sign-up nothing. pause_triggers
-- and resume_triggers alter the table of pauses, after which PostgreSQL plans such statements anew. Elsewhere ask
-- is_paused: what was planned in a snapshot from before a pause may go on saying that there is none.
create or replace function usersync.has_pause(pause_table regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return exists (select from usersync.pause);
end;
$usersync$;
comment on function usersync.has_pause(regclass) is
    'usersync: whether there is a pause, as of when a statement is planned.';
