-- Why a user has no row, in a sentence.
create or replace function usersync.why_unsynced(user_id uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return coalesce(
        (
            select failure.sqlstate || ' ' || failure.message from usersync.sync_failures as failure
            where failure.user_id = why_unsynced.user_id
        ),
        case
            when exists (select from "@source_table" as source where source."id" = why_unsynced.user_id)
            then 'the user was deleted, or the users table could not be read'
            else 'the auth server has no such user'
        end
    );
exception when others then
    return sqlstate || ' ' || sqlerrm;
end;
$usersync$;
comment on function usersync.why_unsynced(uuid) is 'usersync: why this user has no row.';
