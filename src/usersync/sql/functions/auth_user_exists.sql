-- Whether the auth server has this user and has not soft-deleted the user. True if the auth server's table cannot be
-- read.
create or replace function usersync.auth_user_exists(user_id uuid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return exists (
        select from "@source_table" as source where source."id" = auth_user_exists.user_id and source."deleted_at" is null
    );
exception when others then
    return true;
end;
$usersync$;
comment on function usersync.auth_user_exists(uuid) is
    'usersync: whether the auth server has this user, not soft-deleted.';
