-- Whether the application has rules that rewrite writes to a table. IMMUTABLE for the reason in stores_rows_unchanged.
create or replace function usersync.has_rules(relation regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return (select has_rules from usersync.read_catalog(relation));
end;
$usersync$;
comment on function usersync.has_rules(regclass) is
    'usersync: whether the application has rules that rewrite writes to a table.';
