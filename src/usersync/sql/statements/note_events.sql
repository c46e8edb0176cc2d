-- Creates the trigger that notes the new events of an audit log that is a table of the application. Creating it waits for
-- the transactions that have inserted events. Does nothing if the trigger is there.
do $usersync$
begin
    if to_regclass('usersync.noted_log') is not null and exists (
        select from pg_trigger
        where tgrelid = '@audit_table'::regclass and tgname = 'note_events' and tgenabled in ('O', 'A')
            and tgfoid = 'usersync.note_events()'::regprocedure and tgtype = 4 and tgqual is null
            and tgnewtable = 'inserted_events'
    ) and exists (select from usersync.noted_log as noted where noted.log = '@audit_table') then
        return;
    end if;
    create or replace trigger note_events after insert on "@audit_table"
        referencing new table as inserted_events
        for each statement execute function usersync.note_events();
    -- Events that the table has already get their numbers when the feed is read.
    insert into usersync.noted_log as noted (log) values ('@audit_table')
    on conflict (only_row) do update set
        log = excluded.log,
        is_complete = noted.is_complete and noted.log = excluded.log,
        is_searched = true,
        search_after = null,
        part = null,
        block = 0;
end;
$usersync$;
