-- Puts aside the events that are none, and returns the others in their order.
create or replace function usersync.sift_audit_events(events jsonb, out good jsonb, out rejected bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    judged record;
    left_over jsonb[] := '{}'::jsonb[];
begin
    rejected := 0;
    for judged in
        select event, fault.code, fault.reason
        from jsonb_array_elements(events) as event
        cross join lateral usersync.fault_of_event(event) as fault
    loop
        if judged.code is null then
            left_over := left_over || judged.event;
        else
            perform usersync.reject_audit_event(judged.event, judged.code, judged.reason);
            rejected := rejected + 1;
        end if;
    end loop;
    good := to_jsonb(left_over);
end;
$usersync$;
comment on function usersync.sift_audit_events(jsonb) is
    'usersync: puts aside the events that are malformed, and returns the others.';
