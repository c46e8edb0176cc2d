-- Stores one event for each of these users in the audit log, in one statement. It is the only function that writes
-- events of users. event_details: for each user, an object with the keys metadata and changes; or null. have_rows:
-- whether user_id can reference the users' rows. fired_by: as in sync_users.
--
-- Raises nothing. An event that cannot be stored is kept in the failures table, and "usersync retry" and
-- "usersync sync" store it later, with the id and the time that it has now. So is an event of a user whose earlier
-- event is kept there: a user's events are stored in order. In the auth server's transaction only one attempt may fail.
-- After that, events are kept without an attempt.
create or replace function usersync.record_user_events(
    event_action text, user_ids uuid[], event_details jsonb[], have_rows boolean, fired_by text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
<<recording>>
declare
    action text := event_action;
    ids uuid[] := user_ids;
    details jsonb[] := event_details;
    is_linked boolean := have_rows;
    -- An unknown caller is treated like the auth server.
    in_request boolean := coalesce(nullif(fired_by, ''), 'INSERT') in ('INSERT', 'UPDATE', 'DELETE');
    occurred_at timestamptz := clock_timestamp();
    id_prefix text := '@id_prefix';
    statement_timeout text := current_setting('statement_timeout');
    actor_id text;
    actor_type text;
    metadata jsonb;
    request_id text;
    ip inet;
    user_agent text;
    tenant_id text;
    on_behalf_of text;
    traceparent text;
    stored bigint;
    stored_in oid;
    kept uuid[];
    deferred text;
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
begin
    if coalesce(cardinality(recording.ids), 0) = 0 then
        return;
    end if;
    select passed.actor_id, passed.actor_type, passed.on_behalf_of, passed.tenant_id, passed.request_id, passed.ip,
        passed.user_agent, passed.traceparent, passed.metadata
    into actor_id, actor_type, on_behalf_of, tenant_id, request_id, ip, user_agent, traceparent, metadata
    from usersync.user_event_context() as passed;
    metadata := metadata || jsonb_build_object('origin', case fired_by
        when 'PAGE' then 'reconcile'
        when 'ENSURE' then 'ensure'
        when 'RETRY' then 'retry'
        when 'REQUEST' then 'request'
        else 'trigger'
    end);
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. A sign-up waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    if in_request and current_setting('usersync.keeps_user_events', true) = 'yes' then
        reason := 'US003';
        error_message := 'Not tried: an earlier event of the same transaction could not be stored.';
    elsif fired_by is distinct from 'INSERT' and current_setting('usersync.failures_locked', true) is distinct from 'yes' then
        begin
            kept := array(
                select failure.user_id from usersync.sync_failures as failure
                where failure.kind = 'event' and failure.user_id = any(recording.ids)
            );
        exception when lock_not_available then
            -- The event can be stored, even if this is before an earlier one of its user.
            perform set_config('usersync.failures_locked', 'yes', true), set_config('usersync.has_waited', 'yes', true);
        end;
        if cardinality(kept) > 0 then
            reason := 'US003';
            error_message := 'Not tried: an earlier event of the user is not stored yet.';
            if not recording.ids <@ kept then
                perform usersync.record_user_events(
                    recording.action, array_agg(changed.user_id), array_agg(changed.detail), recording.is_linked,
                    fired_by)
                from unnest(recording.ids, recording.details) as changed (user_id, detail)
                where changed.user_id <> all(kept);
                select array_agg(changed.user_id), array_agg(changed.detail) into recording.ids, recording.details
                from unnest(recording.ids, recording.details) as changed (user_id, detail)
                where changed.user_id = any(kept);
            end if;
        end if;
    end if;

    if reason is null then
        loop
            begin
                with stored as (
                    insert into "@audit_table" ("@audit_columns")
                    select '@audit_values' from "@user_events" as event
                    returning tableoid::oid as relation
                )
                select count(*), max(stored.relation) into recording.stored, stored_in from stored;
                if recording.stored < cardinality(recording.ids) then
                    raise exception 'a trigger on the audit log returned null, so the event was not stored'
                        using errcode = 'triggered_data_change_violation';
                end if;
                -- A check of the log that waits for COMMIT would fail the sign-up there, outside of this block. A trigger
                -- may also have written to a table with such a check.
                if usersync.fires_on_insert(stored_in) then
                    if in_request and current_setting('usersync.in_request', true) is distinct from 'true' then
                        deferred := (
                            select string_agg(distinct format('%I.%I', nspname, conname), ', ')
                            from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
                            where condeferred
                        );
                        set constraints all immediate;
                        perform usersync.defer_constraints(deferred);
                    else
                        perform usersync.check_deferred_constraints();
                    end if;
                end if;
                if current_setting('statement_timeout') <> statement_timeout then
                    perform set_config('statement_timeout', statement_timeout, false);
                end if;
                return;
            exception when others or assert_failure then
                get stacked diagnostics
                    reason = returned_sqlstate,
                    failed_constraint = constraint_name,
                    failed_column = column_name,
                    error_message = message_text,
                    error_context = pg_exception_context;
            end;
            -- The audit log of the application may reference another table than the users table.
            exit when reason <> '23503' or not recording.is_linked;
            recording.is_linked := false;
        end loop;
        recording.is_linked := have_rows;
        if in_request then
            perform set_config('usersync.keeps_user_events', 'yes', true);
        end if;
        if reason = '55P03' then
            perform set_config('usersync.has_waited', 'yes', true);
        end if;
    end if;

    begin
        insert into usersync.sync_failures (
            user_id, kind, outcome, sqlstate, constraint_name, column_name, message, raised_in, event
        )
        select
            event.entity_id::uuid,
            'event',
            'failed',
            recording.reason,
            usersync.redact_message(recording.reason, nullif(recording.failed_constraint, '')),
            usersync.redact_message(recording.reason, nullif(recording.failed_column, '')),
            usersync.redact_message(recording.reason, recording.error_message),
            usersync.find_raising_function(recording.error_context),
            to_jsonb(event) - 'recorded_at'
        from "@user_events" as event;
    exception when others or assert_failure then
        raise warning 'usersync: % was not recorded for % user(s), and the failures table could not be written',
            recording.action, cardinality(recording.ids)
            using detail = format(
                'Users: %s. Cause: %s %s. Failures table: %s %s.',
                left(array_to_string(recording.ids, ', '), 1000), recording.reason,
                usersync.redact_message(recording.reason, recording.error_message), sqlstate, sqlerrm),
            hint = 'Run "usersync doctor".';
    end;
end;
$usersync$;
comment on function usersync.record_user_events(text, uuid[], jsonb[], boolean, text) is
    'usersync: stores one event for each of these users in the audit log.';
