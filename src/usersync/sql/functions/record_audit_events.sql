-- Stores an array of events and returns how many were stored. It is the only way into the audit log. Creates the rows
-- of their users first, in the same transaction. The content of an event never makes this function raise; invalid
-- events are kept in usersync.audit_rejects. A batch that is sent again is stored once.
--
-- Keys that are no fields of an event are kept in its metadata, and the answer counts the events that had any.
--
-- A spool names the database that its events are for: in usersync.belongs_to, or in the header usersync-belongs-to. If
-- this is another database, nothing is stored, and the answer contains this database's position. '?' asks only for the
-- position; '*' accepts any database. With the header usersync-try, the events are stored and rolled back.
--
-- In a transaction of usersync's own, an empty batch creates the partitions of the months ahead, and so does a call
-- through the Data API. Other calls do not: the locks last until the transaction ends, and that may be the
-- application's.
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
    unknown bigint;
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
    select complete.events, complete.unknown into events, unknown from usersync.complete_events(events) as complete;
    if headers ? 'usersync-try' then
        begin
            result := usersync.store_event_batch(events, false, false);
            raise exception using errcode = 'triggered_action_exception';
        exception when triggered_action_exception then
            return jsonb_build_object('stored', result.stored, 'position', place);
        end;
    end if;
    result := usersync.store_event_batch(events, false, false);
    if makes_partitions then
        -- Last, because it locks the users table against writes until the transaction ends.
        perform usersync.make_audit_partitions();
    end if;
    if result.rejected > 0 then
        -- A caller that rolls back cannot read them from the table. A few are enough to find the cause. The application
        -- logs the answer, so it quotes no value of an event.
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
            select kept.event, kept.sqlstate, kept.reason
            from jsonb_array_elements(events) as sent
            join usersync.audit_rejects as kept
                on kept.fingerprint = sha256(convert_to(sent::text, 'UTF8'))
            limit 5
        ) as few;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected,
        'rejects', rejects,
        'unknown', nullif(unknown, 0),
        'position', place
    ));
end;
$usersync$;
comment on function public.record_audit_events(jsonb) is
    'usersync: stores a JSON array of audit events, each exactly once.';
