-- The columns of a table with their types, see read_columns. IMMUTABLE for the reason in stores_rows_unchanged: the
-- trigger of a tracked table compares them with those for which it was made, and this takes no time.
create or replace function usersync.table_columns(relation regclass, names text[]) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return usersync.read_columns(relation, names);
end;
$usersync$;
comment on function usersync.table_columns(regclass, text[]) is
    'usersync: the columns of a table with their types, as text; computed when a statement is planned.';
