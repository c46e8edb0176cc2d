-- Stores the events of these users that the failures table keeps, each with the id and the time that it had at first.
-- Raises nothing. If the batch fails, the events of each half of the users are tried by themselves.
create or replace function usersync.record_kept_events(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    half integer := cardinality(ids) / 2;
    kept bigint[];
    events jsonb;
    linked uuid[];
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return;
    end if;
    for attempt in 1..2 loop
        begin
            select array_agg(failure.failure_id), jsonb_agg(failure.event order by failure.failure_id) into kept, events
            from (
                select failure.failure_id, failure.event from usersync.sync_failures as failure
                where failure.kind = 'event' and failure.user_id = any(ids) for update skip locked
            ) as failure;
            if kept is null then
                return;
            end if;
            -- In the second attempt no event is linked: the log may reference another table than the users table.
            linked := case when attempt = 1
                then (select locking.locked_ids from usersync.lock_user_rows(ids) as locking)
            end;
            insert into "@audit_table" ("@audit_columns")
            select '@audit_values'
            from (
                select
                    '@kept_event_fields',
                    now() as recorded_at,
                    case when given.user_id = any(coalesce(linked, '{}')) then given.user_id end as user_id
                from jsonb_populate_recordset(null::usersync.audit_event, events) as given
            ) as event
            on conflict ("@audit_key") do nothing;
            perform usersync.check_events_stored(events);
            perform usersync.check_deferred_constraints();
            delete from usersync.sync_failures as failure where failure.failure_id = any(kept);
            return;
        exception when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
        end;
        exit when reason <> '23503';
    end loop;
    if half > 0 and left(reason, 2) not in ('42', '53', '55', '57', '58', 'XX') then
        perform usersync.record_kept_events(ids[:half]);
        perform usersync.record_kept_events(ids[half + 1:]);
        return;
    end if;
    update usersync.sync_failures as failure
    set sqlstate = reason,
        constraint_name = usersync.redact_message(reason, nullif(failed_constraint, '')),
        column_name = usersync.redact_message(reason, nullif(failed_column, '')),
        message = usersync.redact_message(reason, error_message),
        raised_in = usersync.find_raising_function(error_context),
        attempts = failure.attempts + 1,
        last_failed_at = now(),
        next_try_at = case
            when failure.attempts >= 5 then now() + interval '1 minute' * least(2 ^ least(failure.attempts - 5, 11), 1440)
        end
    where failure.kind = 'event' and failure.user_id = any(ids);
exception when others or assert_failure then
    raise warning 'usersync: kept events of % user(s) were not stored: % %', cardinality(ids), sqlstate, sqlerrm
        using hint = 'Run "usersync doctor".';
end;
$usersync$;
comment on function usersync.record_kept_events(uuid[]) is
    'usersync: stores the events of these users that the failures table keeps.';
