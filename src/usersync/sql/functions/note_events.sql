-- Trigger on an audit log that is a table of the application, after each INSERT: notes the new events, so that
-- usersync.number_events finds them. usersync's own log has the transaction and the order in columns instead.
--
-- Raises nothing, and waits for a lock 10 ms at most, once in a transaction. A statement whose events cannot be noted is
-- counted, and number_events looks for its events later.
create or replace function usersync.note_events() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '10ms'
as $usersync$
begin
    if current_setting('usersync.misses_events', true) is distinct from 'yes' then
        begin
            insert into usersync.noted_events (event_id, stored_id, occurred_at)
            select '@noted_id', '@noted_text', '@noted_time'
            from inserted_events as stored where '@has_id';
            return null;
        exception when others or assert_failure then
            perform set_config('usersync.misses_events', 'yes', true);
        end;
    end if;
    begin
        perform nextval('usersync.missed_statements_seq');
    exception when others or assert_failure then
        raise warning 'usersync: new events of % could not be noted: % %', tg_relid::regclass, sqlstate, sqlerrm
            using hint = 'They get their numbers after the next daily search. Run "usersync doctor".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.note_events() is
    'usersync: notes the new events of an audit log that is a table of the application.';
