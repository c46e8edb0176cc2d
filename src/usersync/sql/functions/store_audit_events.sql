-- Stores a batch in one statement, and what it cannot store because of an event's content it finds by halving
-- and puts aside. Raises for the database's own troubles only: those are worth trying again.
create or replace function usersync.store_audit_events(
    events jsonb, present uuid[], inout stored bigint default 0, inout rejected bigint default 0
)
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $usersync$
#variable_conflict use_column
declare
    size integer := jsonb_array_length(events);
    written bigint;
    reason text;
    error_message text;
begin
    begin
        insert into "@audit_table" ("@audit_columns")
        select '@audit_values'
        from (
            select
                coalesce(given.id, gen_random_uuid()) as id,
                coalesce(given.occurred_at, now()) as occurred_at,
                now() as recorded_at,
                given.action,
                coalesce(given.outcome, 'succeeded') as outcome,
                given.actor_id,
                coalesce(given.actor_type, case when given.actor_id is null then 'system' else 'user' end) as actor_type,
                linked.user_id,
                given.entity_type,
                given.entity_id,
                given.changes,
                coalesce(given.metadata, '{}') || case
                    when wanted.user_id is null or linked.user_id is not null then '{}'
                    else jsonb_build_object(
                        'original_user_id', wanted.user_id,
                        'user_sync_error', usersync.why_unsynced(wanted.user_id)
                    )
                end as metadata,
                given.request_id,
                given.ip,
                given.user_agent,
                coalesce(given.source, 'app') as source
            from jsonb_to_recordset(store_audit_events.events) as given (
                id uuid, occurred_at timestamptz, action text, outcome text, actor_id text, actor_type text,
                user_id uuid, entity_type text, entity_id text, changes jsonb, metadata jsonb, request_id text,
                ip inet, user_agent text, source text
            )
            cross join lateral (
                select usersync.user_of_event(given.user_id, given.actor_type, given.actor_id) as user_id
            ) as wanted
            left join unnest(store_audit_events.present) as linked (user_id) on linked.user_id = wanted.user_id
        ) as event
        on conflict do nothing;
        get diagnostics written = row_count;
        stored := stored + written;
        return;
    exception when others or assert_failure then
        get stacked diagnostics
            reason = returned_sqlstate, error_message = message_text;
    end;

    if left(reason, 2) not in ('22', '23', '54', 'P0') and reason not in ('42804', '42846') then
        raise exception using errcode = reason, message = error_message;
    end if;
    if size > 1 then
        select halves.stored, halves.rejected into stored, rejected
        from usersync.store_audit_events(
            jsonb_path_query_array(events, '$[0 to $last]', jsonb_build_object('last', size / 2 - 1)),
            present, stored, rejected) as halves;
        select halves.stored, halves.rejected into stored, rejected
        from usersync.store_audit_events(
            jsonb_path_query_array(events, '$[$first to last]', jsonb_build_object('first', size / 2)),
            present, stored, rejected) as halves;
        return;
    end if;
    if reason = '23503' and cardinality(present) > 0 then
        -- The user went between the look and the insert.
        select alone.stored, alone.rejected into stored, rejected
        from usersync.store_audit_events(events, '{}', stored, rejected) as alone;
        return;
    end if;
    insert into usersync.audit_rejects (event, sqlstate, reason)
    values (events -> 0, reason, left(error_message, 500));
    rejected := rejected + 1;
end;
$usersync$;
comment on function usersync.store_audit_events(jsonb, uuid[], bigint, bigint) is
    'usersync: stores events whose users are resolved, and puts aside those that cannot be stored.';
