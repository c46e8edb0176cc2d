-- Whether the users table has a row for this user. Does not create one.
create or replace function usersync.user_exists(user_id uuid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return exists (select from "@users_table" as target where target."@key" = user_exists.user_id::"@key_type" and ('@is_user_row'));
end;
$usersync$;
comment on function usersync.user_exists(uuid) is 'usersync: whether this user has a row in the users table.';
