-- Checks an event: returns the SQLSTATE and the reason if it is invalid, nulls if it is valid. PostgreSQL's error
-- quotes the value but does not name the field, so the fields are tried one by one.
create or replace function usersync.validate_event(event jsonb, out code text, out reason text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    field text;
begin
    perform jsonb_populate_record(null::usersync.audit_event, event);
    return;
exception when others then
    code := sqlstate;
    reason := sqlerrm;
    if jsonb_typeof(event) <> 'object' then
        reason := 'an event must be a JSON object, not a JSON ' || jsonb_typeof(event);
        return;
    end if;
    for field in
        select attname from pg_attribute where attrelid = 'usersync.audit_event'::regclass and attnum > 0 order by attnum
    loop
        begin
            perform jsonb_populate_record(
                null::usersync.audit_event, '{"action": "any"}' || jsonb_build_object(field, event -> field));
        exception when others then
            reason := field || ': ' || sqlerrm;
            return;
        end;
    end loop;
end;
$usersync$;
comment on function usersync.validate_event(jsonb) is
    'usersync: returns why an event is invalid; null if it is valid.';
