-- The DEFAULT of a column for a new row, as an INSERT without the column computes it. Null if the column has no
-- DEFAULT.
create or replace function usersync.column_default(column_name text) returns text
language plpgsql
set search_path = pg_catalog, "@pinned"
as $usersync$
#variable_conflict use_column
declare
    code text := (
        select pg_get_expr(adbin, adrelid)
        from pg_attrdef
        join pg_attribute on attrelid = adrelid and attnum = adnum
        where adrelid = '@users_table'::regclass and attname = column_default.column_name
    );
    computed text;
begin
    if code is not null then
        execute format('select (%s)::text', code) into computed;
    end if;
    return computed;
end;
$usersync$;
comment on function usersync.column_default(text) is 'usersync: the DEFAULT of a column of the users table for a new row.';
