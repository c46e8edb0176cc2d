-- Whether events of users are recorded, or with_values: whether they are recorded with the values of columns. Raises nothing: without its table, none are.
create or replace function usersync.records_user_events(with_values boolean default false) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '10ms'
as $usersync$
begin
    return exists (
        select from usersync.user_event_requests as request where request.with_values or not records_user_events.with_values
    );
exception when others then
    return false;
end;
$usersync$;
comment on function usersync.records_user_events(boolean) is 'usersync: whether events of users are recorded.';
