-- Whether one of these columns has a DEFAULT. IMMUTABLE for the reason in stores_rows_unchanged.
create or replace function usersync.has_default(relation regclass, column_names text[]) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return (select columns_with_default::text[] && column_names from usersync.read_catalog(relation));
end;
$usersync$;
comment on function usersync.has_default(regclass, text[]) is
    'usersync: whether one of these columns has a DEFAULT.';
