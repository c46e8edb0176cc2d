-- Trigger on the auth server's table, after DELETE. Hands the ids on and raises nothing.
create or replace function usersync.handle_deleted_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    ids uuid[];
begin
    if tg_relid <> '@source_table'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    ids := array(select old_users."id" from old_users);
    perform usersync.sync_users(ids, tg_op, false);
    return null;
exception when others or assert_failure then
    -- One of our own functions is gone or was changed.
    declare
        reason text := sqlstate;
        problem text := sqlerrm;
    begin
        perform usersync.degrade_users(ids, reason, null, null, problem, null);
    exception when others or assert_failure then
        raise warning 'usersync: deleted users were not synced: % %', reason, problem
            using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_deleted_user() is
    'usersync: runs when the auth server deletes users, and applies on_delete to their rows.';
