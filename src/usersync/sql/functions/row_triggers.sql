-- The application's triggers that fire for each row after the operation (4 INSERT, 8 DELETE, as in pg_trigger.tgtype)
-- and before COMMIT. Triggers of the same kind fire in the order of their names. IMMUTABLE for the reason in
-- stores_rows_unchanged. A call with a variable is computed each time, so it is allowed anywhere.
create or replace function usersync.row_triggers(relation regclass, operation integer) returns name[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return array(
        select tgname from usersync.table_triggers(relation)
        where tgtype & 3 = 1 and tgtype & operation <> 0 and not tgisinternal and not tgdeferrable
    );
end;
$usersync$;
comment on function usersync.row_triggers(regclass, integer) is
    'usersync: the triggers that fire for each row after an operation, by name.';
