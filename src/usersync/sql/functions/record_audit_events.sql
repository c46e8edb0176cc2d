-- The one way into the audit log: an array of events in, how many were stored out. The users come first, in
-- the same transaction. What an event contains never makes this raise; see usersync.audit_rejects. Sending a
-- batch again stores nothing twice.
create or replace function public.record_audit_events(events jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    result record;
begin
    if events is null or jsonb_typeof(events) <> 'array' then
        raise exception 'expected a JSON array of events' using errcode = 'invalid_parameter_value';
    end if;
    perform usersync.make_audit_partitions();
    result := usersync.store_audit_events(events, usersync.resolve_users(array(
        select distinct user_id
        from jsonb_array_elements(events) as event
        cross join lateral (
            -- As text: a malformed id is for store_audit_events to find.
            select usersync.user_of_event(
                null, coalesce(nullif(event ->> 'actor_type', ''), 'user'), event ->> 'actor_id'
            ) as user_id
            union
            select usersync.user_of_event(null, 'user', event ->> 'user_id')
        ) as wanted
        where user_id is not null
    )));
    return jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected
    );
end;
$usersync$;
comment on function public.record_audit_events(jsonb) is
    'usersync: stores a JSON array of audit events, each exactly once.';
