-- Those of these users who have no row in the users table. Raises nothing: if the table is locked, none.
create or replace function usersync.users_without_row(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, "@pinned"
set lock_timeout = '10ms'
set enable_seqscan = off
as $usersync$
begin
    return array(
        select wanted.id from unnest(users_without_row.ids) as wanted (id)
        where not exists (select from "@users_table" as target where target."@key" = wanted.id::"@key_type")
    );
exception when others or assert_failure then
    return '{}';
end;
$usersync$;
comment on function usersync.users_without_row(uuid[]) is
    'usersync: those of these users who have no row in the users table.';
