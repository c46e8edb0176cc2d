-- Those of these users who have no row in the users table. Raises nothing: none if the table is locked, if usersync is
-- paused, or if this transaction has waited for a lock already.
create or replace function usersync.users_without_row(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, "@pinned"
set lock_timeout = '10ms'
set enable_seqscan = off
as $usersync$
begin
    if current_setting('usersync.has_waited', true) = 'yes' or current_setting('usersync.gives_up', true) = 'yes'
        or usersync.is_paused()
    then
        return '{}'::uuid[];
    end if;
    return array(
        select wanted.id from unnest(users_without_row.ids) as wanted (id)
        where not exists (select from "@users_table" as target where target."@key" = wanted.id::"@key_type")
    );
exception when others or assert_failure then
    if sqlstate = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    return '{}'::uuid[];
end;
$usersync$;
comment on function usersync.users_without_row(uuid[]) is
    'usersync: those of these users who have no row in the users table.';
