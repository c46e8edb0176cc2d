-- Whether events of users are recorded (with_values: with the values of columns), for the trigger on INSERT. IMMUTABLE for the reason in stores_rows_unchanged.
-- request_user_events alters the table usersync.user_event_requests, so that PostgreSQL plans these calls again.
create or replace function usersync.has_user_events(request_table regclass, with_values boolean) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return request_table is not null and usersync.records_user_events(with_values);
end;
$usersync$;
comment on function usersync.has_user_events(regclass, boolean) is
    'usersync: whether events of users are recorded, as of when a statement is planned.';
