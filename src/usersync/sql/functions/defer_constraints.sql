-- Defers constraints again that are INITIALLY DEFERRED: the transaction may rely on it.
create or replace function usersync.defer_constraints(names text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    one text;
begin
    if names is null then
        return;
    end if;
    begin
        execute 'set constraints ' || names || ' deferred';
        return;
    exception when others then
        null;  -- Another constraint with one of these names is not deferrable.
    end;
    foreach one in array string_to_array(names, ', ') loop
        begin
            execute 'set constraints ' || one || ' deferred';
        exception when others then
            null;
        end;
    end loop;
end;
$usersync$;
comment on function usersync.defer_constraints(text) is 'usersync: defers constraints again.';
