-- Raises if more rows would be removed than may.
create or replace function usersync.check_removals() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    counted record := usersync.count_removals();
begin
    if counted.removals > counted.allowed then
        raise exception 'usersync: % of % rows belong to users whom the auth server no longer has; at most % may be removed at once',
            counted.removals, counted.users, counted.allowed
            using errcode = 'US403', hint = 'If this is meant, run "usersync sync --removal-cap 1".';
    end if;
end;
$usersync$;
comment on function usersync.check_removals() is
    'usersync: raises if a reconciling run would remove more rows than it may.';
