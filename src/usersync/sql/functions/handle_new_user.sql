-- Trigger on the auth server's table, after INSERT. Hands the ids on and raises nothing.
create or replace function usersync.handle_new_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if tg_level = 'ROW' then
        perform usersync.sync_users(array[new."id"], just_inserted => true);
    else
        perform usersync.sync_users(array(select new_users."id" from new_users), just_inserted => true);
    end if;
    return null;
exception when others or assert_failure then
    raise warning 'usersync: new users were not synced: % %', sqlstate, sqlerrm
        using hint = 'Run "usersync doctor", then "usersync sync".';
    return null;
end;
$usersync$;
comment on function usersync.handle_new_user() is
    'usersync: runs when the auth server makes users, and gives each a row in the users table.';
