-- Adds the time of a failed attempt to the total of the auth server's transaction, and returns whether to give up. It
-- gives up after budget_ms, or if a trigger of the application has raised for the only user of the statement.
create or replace function usersync.count_failed_attempt(started timestamptz, has_raised boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    spent numeric := coalesce(nullif(current_setting('usersync.spent_ms', true), ''), '0')::numeric
        + extract(epoch from clock_timestamp() - started) * 1000;
begin
    perform set_config('usersync.spent_ms', round(spent, 3)::text, true);
    if has_raised or spent >= '@budget_ms'::numeric then
        perform set_config('usersync.gives_up', 'yes', true);
    end if;
    return current_setting('usersync.gives_up', true) is not distinct from 'yes';
end;
$usersync$;
comment on function usersync.count_failed_attempt(timestamp with time zone, boolean) is
    'usersync: adds up the time of failed attempts in the auth server''s transaction.';
