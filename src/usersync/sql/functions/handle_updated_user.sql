-- Trigger on the auth server's table, after UPDATE. A sign-in and a token refresh update that table too, so
-- what was mirrored is compared here, in the body: a trigger that names columns would make the auth server's
-- own migrations fail (supabase/auth#994).
create or replace function usersync.handle_updated_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if row('@new_auth_values') is distinct from row('@old_auth_values') then
        perform usersync.sync_users(
            case when new."id" = old."id" then array[new."id"] else array[new."id", old."id"] end
        );
    end if;
    return null;
exception when others or assert_failure then
    raise warning 'usersync: user % was not synced: % %', new."id", sqlstate, sqlerrm
        using hint = 'Run "usersync doctor", then "usersync sync".';
    return null;
end;
$usersync$;
comment on function usersync.handle_updated_user() is
    'usersync: runs when the auth server changes a user, and follows where a mirrored value changed.';
