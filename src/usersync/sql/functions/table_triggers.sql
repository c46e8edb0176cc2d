-- The current triggers of a table. VOLATILE for the reason in read_catalog. Separate from read_catalog because
-- row_triggers needs only this and may be called for each row of an import.
create or replace function usersync.table_triggers(relation regclass) returns setof pg_catalog.pg_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
begin
    return query select * from pg_trigger where tgrelid = relation;
end;
$usersync$;
comment on function usersync.table_triggers(regclass) is 'usersync: the current triggers of a table.';
