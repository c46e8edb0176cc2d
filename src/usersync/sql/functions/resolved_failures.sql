-- Users in the failures table who had no row and now have one that agrees with the mapping, because the application
-- inserted it. They no longer count as failures, and the next run deletes them from the table. Empty if the rows cannot
-- be compared.
create or replace function usersync.resolved_failures() returns uuid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
#variable_conflict use_column
<<known>>
declare
    failed uuid[] := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.kind = 'row' and failure.outcome = 'failed'
    );
begin
    return array(
        select target."@key"::uuid from "@users_table" as target where target."@key" = any(known.failed::"@key_type"[])
        except
        select out_of_sync.user_id from usersync.find_out_of_sync_users(known.failed, false) as out_of_sync
    );
exception when others or assert_failure then
    return '{}'::uuid[];
end;
$usersync$;
comment on function usersync.resolved_failures() is
    'usersync: the users of the failures table whose rows agree with the mapping now.';
