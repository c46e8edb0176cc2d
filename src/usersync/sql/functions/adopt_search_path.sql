-- Sets the search path that a function of the application needs. restore_adopted resets it later.
create or replace function usersync.adopt_search_path(function_name text, search_path text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    execute format('alter function %s set search_path = %s', function_name::regprocedure, adopt_search_path.search_path);
    insert into usersync.adopted (kind, name, function_name, definition, function_definition)
    select 'search_path', oid::regprocedure::text, oid::regprocedure::text, array_to_string(proconfig, ', '), ''
    from pg_proc where oid = function_name::regprocedure
    on conflict (kind, name) do update set definition = excluded.definition, adopted_at = now();
end;
$usersync$;
comment on function usersync.adopt_search_path(text, text) is
    'usersync: sets the search path that a function of the application needs.';
