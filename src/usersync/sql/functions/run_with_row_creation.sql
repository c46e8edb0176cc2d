-- Runs an operation that creates rows although creates_rows is false, for an explicit request.
create or replace function usersync.run_with_row_creation(operation text, arguments jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    answer jsonb;
begin
    perform set_config('usersync.creates_rows', 'yes', true);
    answer := public.usersync(operation, arguments - 'create');
    -- The setting is for this operation only. An error rolls it back.
    perform set_config('usersync.creates_rows', '', true);
    return answer;
end;
$usersync$;
comment on function usersync.run_with_row_creation(text, jsonb) is
    'usersync: runs an operation that creates rows although creates_rows is false.';
