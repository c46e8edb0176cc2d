-- Trigger on the auth server's table, after INSERT. Raises nothing.
--
-- Nearly every sign-up needs one INSERT and nothing else, so that is tried first, with the rows as they came in. It is
-- left to sync_users where something might change what is written (a trigger of the application's for INSERT, or
-- partitions, which may have one), where the transaction has changed users already (what came in need not be what is
-- there by now), and where the INSERT fails, for whatever reason.
--
-- enable_seqscan: it is the index of the catalog that is to be used.
create or replace function usersync.handle_new_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    ids uuid[];
begin
    if tg_relid <> '@source_table'::regclass then
        -- Somebody has put another relation in its place. What that would run, it would run as our owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    if tg_level = 'STATEMENT' and current_setting('usersync.has_changed_users', true) is distinct from 'yes' then
        begin
            -- As sync_users does it: what would fail at COMMIT fails in here.
            set constraints all immediate;
            if pg_partition_root('@users_table'::regclass) is null and not exists (
                select from pg_trigger
                where tgrelid = '@users_table'::regclass and tgtype & 4 <> 0 and not tgisinternal
            ) then
                insert into "@users_table" ("@columns")
                select '@source_values' from new_users as source where source."deleted_at" is null;
                if found then
                    return null;
                end if;
            end if;
        exception when others or assert_failure then
            if sqlstate = '55P03' then
                perform set_config('usersync.has_waited', 'yes', true);
            end if;
        end;
    end if;
    if tg_level = 'ROW' then
        ids := array[new."id"];
    else
        ids := array(select new_users."id" from new_users);
    end if;
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
        raise warning 'usersync: new users were not synced: % %', reason, problem
            using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_new_user() is
    'usersync: runs when the auth server makes users, and gives each a row in the users table.';
