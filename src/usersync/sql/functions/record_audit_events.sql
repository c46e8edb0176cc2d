-- The one way into the audit log: an array of events in, how many were stored out. The users come first, in
-- the same transaction. What an event contains never makes this raise; see usersync.audit_rejects. Sending a
-- batch again stores nothing twice.
create or replace function public.record_audit_events(events jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    -- Most likely the whole transaction, then, and soon over.
    alone boolean := pg_current_xact_id_if_assigned() is null and clock_timestamp() < now() + interval '100 ms';
    result record;
begin
    if events is null or jsonb_typeof(events) <> 'array' then
        raise exception 'expected a JSON array of events' using errcode = 'invalid_parameter_value';
    end if;
    if jsonb_path_exists(events, '$[*] ? (!exists(@.id) || @.id == null)') then
        -- By it an event is found again. What comes without one comes without a time as well, most likely.
        events := (
            select jsonb_agg(
                case
                    when jsonb_typeof(event) <> 'object' or event ->> 'id' is not null then event
                    else jsonb_build_object('occurred_at', now()) || event || jsonb_build_object('id', gen_random_uuid())
                end
                order by position)
            from jsonb_array_elements(events) with ordinality as given (event, position)
        );
    end if;
    result := usersync.store_audit_events(events);
    if alone then
        -- Last, because it locks the users table against writes until the transaction ends.
        perform usersync.make_audit_partitions();
    end if;
    return jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected
    );
end;
$usersync$;
comment on function public.record_audit_events(jsonb) is
    'usersync: stores a JSON array of audit events, each exactly once.';
