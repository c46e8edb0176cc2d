-- Checks the constraints that make_constraints_immediate has chosen: those without pending violations of the caller.
create or replace function usersync.check_deferred_constraints() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    checked text := coalesce(current_setting('usersync.checked_constraints', true), '');
begin
    if checked = 'all' then
        set constraints all immediate;
    elsif checked <> '' then
        execute 'set constraints ' || checked || ' immediate';
    end if;
end;
$usersync$;
comment on function usersync.check_deferred_constraints() is 'usersync: checks deferred constraints before COMMIT.';
