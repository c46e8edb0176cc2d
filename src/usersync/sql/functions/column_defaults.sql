-- The DEFAULTs of the mapped columns that use it if a user has no value, as a JSON object. A constant is text; null
-- stands for a DEFAULT that is computed for each row. Null if no mapped column has a DEFAULT.
create or replace function usersync.column_defaults() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return ('@column_defaults');
end;
$usersync$;
comment on function usersync.column_defaults() is
    'usersync: the DEFAULTs of the mapped columns that use it if a user has no value.';
