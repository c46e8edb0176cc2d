-- Rejects the invalid events and returns the valid ones in their order.
create or replace function usersync.reject_invalid_events(events jsonb, is_own boolean, out valid jsonb, out rejected bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    judged record;
    valid_events jsonb[] := '{}'::jsonb[];
begin
    rejected := 0;
    for judged in
        select event, fault.code, fault.reason
        from jsonb_array_elements(events) as event
        cross join lateral usersync.validate_event(event) as fault
    loop
        if judged.code is null then
            valid_events := valid_events || judged.event;
        else
            perform usersync.reject_audit_event(judged.event, is_own, judged.code, judged.reason);
            rejected := rejected + 1;
        end if;
    end loop;
    valid := to_jsonb(valid_events);
end;
$usersync$;
comment on function usersync.reject_invalid_events(jsonb, boolean) is
    'usersync: rejects invalid events and returns the valid ones.';
