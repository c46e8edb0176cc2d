-- The columns of a table with their types, as text: all, or only the named ones. Null if the snapshot does not see the
-- newest column, because the transaction is above READ COMMITTED and has started before. VOLATILE for the reason in
-- read_catalog.
create or replace function usersync.read_columns(relation regclass, names text[]) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
declare
    columns text;
    last_number integer;
begin
    select string_agg('@column_form', ', ' order by attnum)
        filter (where not attisdropped and (names is null or attname = any(names))), max(attnum)
    into columns, last_number
    from pg_attribute where attrelid = relation and attnum > 0;
    -- This function reads the newest catalog, whatever the snapshot. It returns null for a column that does not exist.
    return case when has_column_privilege(relation, (last_number + 1)::smallint, 'select') is null then columns end;
end;
$usersync$;
comment on function usersync.read_columns(regclass, text[]) is
    'usersync: the columns of a table with their types, as text.';
