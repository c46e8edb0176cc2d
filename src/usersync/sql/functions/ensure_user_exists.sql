-- Creates the user's row if it is missing, the auth server has the user and the settings do not skip the user. Returns
-- whether the row exists.
create or replace function public.ensure_user_exists(user_id uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if usersync.user_exists(user_id) then
        return true;
    end if;
    -- False would say that there is no such user.
    perform usersync.refuse_read_only();
    perform usersync.sync_on_request(array[user_id], 'ENSURE');
    return usersync.user_exists(user_id);
exception when undefined_table or undefined_column then
    return false;
end;
$usersync$;
comment on function public.ensure_user_exists(uuid) is
    'usersync: makes sure that this user has a row in the users table; false if there is no such user.';
