-- The DEFAULT of each mapped column that stands in where a user has no value, as a JSON object: a constant as text, null
-- for one that is computed anew for each row. Null where no mapped column has one.
create or replace function usersync.column_defaults() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return ('@column_defaults');
end;
$usersync$;
comment on function usersync.column_defaults() is
    'usersync: the DEFAULT of each mapped column that stands in where a user has no value.';
