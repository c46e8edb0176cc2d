-- Trigger on the auth server's table, after DELETE. Hands the ids on and raises nothing.
create or replace function usersync.handle_deleted_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    perform usersync.sync_users(array(select old_users."id" from old_users));
    return null;
exception when others or assert_failure then
    raise warning 'usersync: deleted users were not synced: % %', sqlstate, sqlerrm
        using hint = 'Run "usersync doctor", then "usersync sync".';
    return null;
end;
$usersync$;
comment on function usersync.handle_deleted_user() is
    'usersync: runs when the auth server deletes users, and applies on_delete to their rows.';
