-- The one way into the audit log: an array of events in, how many were stored out. The users come first, in
-- the same transaction. What an event contains never makes this raise; see usersync.audit_rejects. Sending a
-- batch again stores nothing twice.
--
-- A spool says which database its events are for: usersync.belongs_to, or the header usersync-belongs-to. If this is
-- another database, nothing is stored, and the answer says where this one is. '?' asks for that alone, '*' takes any.
-- The header usersync-try has the events stored and rolled back again.
--
-- In a transaction of usersync's own, an empty batch makes the partitions of the months ahead, and so does a call
-- through the Data API. No other does: the locks last until the transaction ends, and that may be the application's.
create or replace function public.record_audit_events(events jsonb) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    called_through_api boolean := coalesce(current_setting('request.path', true) = '/rpc/record_audit_events', false);
    headers jsonb := case when called_through_api then nullif(current_setting('request.headers', true), '')::jsonb end;
    belongs_to text := case
        when called_through_api then coalesce(headers ->> 'usersync-belongs-to', '*')
        else nullif(current_setting('usersync.belongs_to', true), '')
    end;
    makes_partitions boolean := usersync.owns_transaction() and (events = '[]' or called_through_api);
    place text;
    result record;
    rejects jsonb;
begin
    if belongs_to is not null then
        place := usersync.database_position();
        if belongs_to = '?' or (belongs_to <> '*' and not starts_with(place || ' ', belongs_to || ' ')) then
            return jsonb_build_object('position', place);
        end if;
    end if;
    if usersync.audit_log() is null then
        raise exception 'there is no audit log in this database (to create it: usersync audit enable)'
            using errcode = 'US301';
    end if;
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
    if headers ? 'usersync-try' then
        begin
            result := usersync.store_event_batch(events);
            raise exception using errcode = 'triggered_action_exception';
        exception when triggered_action_exception then
            return jsonb_build_object('stored', result.stored, 'position', place);
        end;
    end if;
    result := usersync.store_event_batch(events);
    if makes_partitions then
        -- Last, because it locks the users table against writes until the transaction ends.
        perform usersync.make_audit_partitions();
    end if;
    if result.rejected > 0 then
        -- For whoever rolls back and cannot look them up then. A few are enough to know what is wrong.
        -- The answer is logged by the application, so that it quotes no value of an event.
        select jsonb_agg(jsonb_build_object(
            'id', few.event -> 'id',
            'action', few.event -> 'action',
            'reason', case
                when few.sqlstate like 'P0%' then 'a function of the application raised SQLSTATE ' || few.sqlstate
                else usersync.redact_message(few.sqlstate, few.reason)
            end
        ))
        into rejects
        from (
            select put_aside.event, put_aside.sqlstate, put_aside.reason
            from jsonb_array_elements(events) as sent
            join usersync.audit_rejects as put_aside
                on put_aside.fingerprint = sha256(convert_to(sent::text, 'UTF8'))
            limit 5
        ) as few;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected,
        'rejects', rejects,
        'position', place
    ));
end;
$usersync$;
comment on function public.record_audit_events(jsonb) is
    'usersync: stores a JSON array of audit events, each exactly once.';
