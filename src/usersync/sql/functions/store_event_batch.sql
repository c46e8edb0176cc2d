-- Stores a batch, and rejects events that cannot be stored because of their content. Raises only for problems of the
-- database, which are worth another attempt. is_own: usersync itself made the events.
--
-- If the batch fails, each event is validated by itself, and the valid ones are stored in one statement. Only events
-- that a constraint or a trigger of the application refuses are found by halving the batch.
--
-- lock_timeout: while another session alters the users table, even an event without a user has to wait, because
-- PostgreSQL checks the foreign key. After 2 s the caller tries again later.
create or replace function usersync.store_event_batch(
    events jsonb, is_own boolean, validated boolean, out stored bigint, out rejected bigint
)
language plpgsql
set search_path = pg_catalog, "@pinned"
set lock_timeout = '2s'
as $usersync$
#variable_conflict use_variable
declare
    half integer := jsonb_array_length(events) / 2;
    reason text;
    failed_constraint text;
    failed_table text;
    error_message text;
    valid jsonb := '[]'::jsonb;
    user_links text := current_setting('usersync.user_links', true);
begin
    rejected := 0;
    for attempt in 1..2 loop
        begin
            stored := usersync.insert_audit_events(events, is_own);
            return;
        exception when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate, failed_constraint = constraint_name, failed_table = table_name,
                error_message = message_text;
        end;
        -- A check violation with a table and without a constraint name means that no partition exists for this time.
        -- The second attempt succeeds if another session has created it.
        exit when reason <> '23514' or failed_constraint <> '' or failed_table = '';
        if attempt = 2 then
            reason := '55000';  -- object_not_in_prerequisite_state: not caused by the events
        end if;
    end loop;

    if left(reason, 2) not in ('22', '23', '27', '54', 'P0') then
        raise exception using errcode = reason, message = error_message;
    end if;
    if not validated then
        select checked.valid, checked.rejected into valid, rejected
        from usersync.reject_invalid_events(events, is_own) as checked;
        select rest.stored, rejected + rest.rejected into stored, rejected
        from usersync.store_event_batch(valid, is_own, true) as rest;
    elsif half > 0 then
        select first.stored + second.stored, first.rejected + second.rejected into stored, rejected
        from usersync.store_event_batch(
            jsonb_path_query_array(events, '$[0 to $last]', jsonb_build_object('last', half - 1)), is_own, true
        ) as first
        cross join lateral usersync.store_event_batch(
            jsonb_path_query_array(events, '$[$first to last]', jsonb_build_object('first', half)), is_own, true
        ) as second;
    elsif reason = '23503' and user_links is distinct from 'unlink' then
        -- The user has a row, but the audit log's foreign key references another table. No event is rejected because of
        -- its user.
        perform set_config('usersync.user_links', 'unlink', true);
        select unlinked.stored, unlinked.rejected into stored, rejected
        from usersync.store_event_batch(events, is_own, true) as unlinked;
        perform set_config('usersync.user_links', coalesce(user_links, ''), true);
    else
        perform usersync.reject_audit_event(events -> 0, is_own, reason, error_message);
        stored := 0;
        rejected := 1;
    end if;
end;
$usersync$;
comment on function usersync.store_event_batch(jsonb, boolean, boolean) is
    'usersync: stores a batch of events, and rejects those that cannot be stored.';
