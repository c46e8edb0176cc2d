-- Raises an error unless each of these events is in the audit log: a trigger of the application may have returned null.
create or replace function usersync.check_events_stored(events jsonb) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if exists (
        select from (
            select (each_event ->> 'id')::uuid as id from jsonb_array_elements(events) as each_event
        ) as given
        where not exists (select from "@audit_table" as stored where '@is_audit_id')
    ) then
        raise exception 'a trigger on the audit log returned null, so the event was not stored'
            using errcode = 'triggered_data_change_violation';
    end if;
end;
$usersync$;
comment on function usersync.check_events_stored(jsonb) is
    'usersync: raises an error unless these events are in the audit log.';
