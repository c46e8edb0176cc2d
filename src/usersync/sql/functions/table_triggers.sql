-- The triggers that a table has by now. VOLATILE for the reason that read_catalog gives. A function of its own, because
-- row_triggers needs nothing else and, if a trigger of the application fires first, is called for each row of an import.
create or replace function usersync.table_triggers(relation regclass) returns setof pg_catalog.pg_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
begin
    return query select * from pg_trigger where tgrelid = relation;
end;
$usersync$;
comment on function usersync.table_triggers(regclass) is
    'usersync: the triggers that a table has by now.';
