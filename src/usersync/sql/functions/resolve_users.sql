-- Those of the users who have a row, after those without one were synced. They are held, so that a foreign key
-- to them is good until the transaction ends. Raises nothing.
create or replace function usersync.resolve_users(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    present uuid[];
begin
    present := array(
        select target."@key" from "@users_table" as target
        where target."@key" = any(resolve_users.ids) for key share
    );
    if cardinality(present) < cardinality(ids) then
        perform usersync.sync_users(array(select unnest(ids) except select unnest(present)));
        present := array(
            select target."@key" from "@users_table" as target
            where target."@key" = any(resolve_users.ids) for key share
        );
    end if;
    return present;
exception when others or assert_failure then
    return '{}';
end;
$usersync$;
comment on function usersync.resolve_users(uuid[]) is
    'usersync: makes sure that these users have rows, as far as can be, and says which do.';
