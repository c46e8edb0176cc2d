-- Inserts a batch of events in one statement. Events that are stored already are left out; on an error nothing is
-- stored. Each event has an id. is_own: usersync itself made the events. Only these have the source "trigger" or "sync".
create or replace function usersync.insert_audit_events(events jsonb, is_own boolean) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    stored bigint;
    -- Of events that name none, unless they were made in another session.
    tenant text := case when not is_own then usersync.tenant_of_session() end;
    role_name name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    -- Facts that the database knows. They replace what the event contains.
    facts jsonb := jsonb_strip_nulls(jsonb_build_object('db_set_role', nullif(role_name, session_user)));
    -- db_role is a column; events of earlier releases have it here.
    replaced_keys text[] := case when is_own then '{db_role}'::text[] else '{db_role,db_set_role}'::text[] end;
begin
    -- Always in the order of ids, so that two sessions that send the same events cannot deadlock.
    with sent as materialized (
        -- The user that an event is linked to: its user_id, otherwise its actor if that is a user. Written here because
        -- a function call for each event would take a seventh of the time. To search for characters that no id contains
        -- takes a fifth of the time of a regular expression for a whole id.
        select
            each_event.*,
            coalesce(
                user_id,
                case
                    when coalesce(actor_type, 'user') = 'user'
                        and actor_id like '________-____-____-____-____________'
                        and actor_id !~ '[^0-9a-fA-F-]'
                        and length(replace(actor_id, '-', '')) = 32
                    then actor_id::uuid
                end
            ) as wanted
        from jsonb_populate_recordset(null::usersync.audit_event, insert_audit_events.events) as each_event
        order by id
    ),
    given as materialized (
        select * from sent where occurred_at is not null or not usersync.is_recorded(id)
    ),
    resolved as materialized (
        select user_id, problem
        from usersync.resolve_users(array(select distinct wanted from given where wanted is not null))
    )
    insert into "@audit_table" ("@audit_columns")
    select '@audit_values'
    from (
        select
            given.id,
            coalesce(given.occurred_at, usersync.time_of_id(given.id), now()) as occurred_at,
            now() as recorded_at,
            given.action,
            coalesce(given.outcome, 'succeeded') as outcome,
            given.actor_id,
            coalesce(given.actor_type, case when given.actor_id is null then 'system' else 'user' end) as actor_type,
            case when resolved.problem is null then given.wanted end as user_id,
            given.entity_type,
            given.entity_id,
            given.changes,
            case
                when resolved.problem is null then coalesce(given.metadata, '{}') - replaced_keys
                else coalesce(given.metadata, '{}') - replaced_keys
                    || jsonb_build_object('original_user_id', given.wanted, 'user_sync_error', resolved.problem)
            end || case
                -- A trigger's event that is stored later keeps the db_role of the session that changed the row.
                when insert_audit_events.is_own and coalesce(given.db_role, given.metadata ->> 'db_role') is not null then '{}'
                when not insert_audit_events.is_own and given.source in ('trigger', 'sync')
                then facts || jsonb_build_object('claimed_source', given.source)
                else facts
            end as metadata,
            given.request_id,
            given.ip,
            given.user_agent,
            case
                when not insert_audit_events.is_own and given.source in ('trigger', 'sync') then 'app'
                else coalesce(given.source, 'app')
            end as source,
            coalesce(given.tenant_id, tenant) as tenant_id,
            given.on_behalf_of,
            case
                when insert_audit_events.is_own then coalesce(given.db_role, given.metadata ->> 'db_role', session_user)
                else session_user
            end as db_role,
            given.traceparent,
            coalesce(given.severity, '@severity_of_action') as severity
        from given
        left join resolved on resolved.user_id = given.wanted
    ) as event
    order by event.id
    on conflict ("@audit_key") do nothing;
    get diagnostics stored = row_count;
    -- Fewer rows than events: the others are stored already, or a trigger of the application has skipped them.
    if stored < jsonb_array_length(events) then
        perform usersync.check_events_stored(events);
    end if;
    return stored;
end;
$usersync$;
comment on function usersync.insert_audit_events(jsonb, boolean) is
    'usersync: inserts a batch of events with their users, or raises.';
