-- Trigger on the auth server's table, after UPDATE. Sign-ins and token refreshes update that table too, so the function
-- compares the mirrored values. A trigger that names columns would make the auth server's own migrations fail
-- (supabase/auth#994).
create or replace function usersync.handle_updated_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    ids uuid[];
    is_deletion boolean := false;
    emptied text[];
begin
    if tg_relid <> '@source_table'::regclass then
        -- Another relation has this trigger. Its code must not run with the rights of this function's owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    -- The first UPDATE of a soft deletion. Later UPDATEs of the same user do not change the row.
    is_deletion := new."id" <> old."id" or new."deleted_at" is not null and old."deleted_at" is null;
    if row('@new_auth_values') is distinct from row('@old_auth_values') or ('@is_newly_expected') or ('@has_arrived') then
        ids := case when new."id" = old."id" then array[new."id"] else array[new."id", old."id"] end;
        perform usersync.sync_users(ids, tg_op, false, is_deletion);
        emptied := array_remove(array['@emptied_columns']::text[], null);
        if cardinality(emptied) > 0 and new."deleted_at" is null and not usersync.is_paused() then
            perform usersync.reset_columns(new."id", emptied);
        end if;
    end if;
    return null;
exception when others or assert_failure then
    -- One of usersync's own functions is missing or was changed, or a mirrored column is, so that the values cannot be
    -- compared. In the second case sync_users writes the row, or records the failure.
    declare
        reason text := sqlstate;
        problem text := sqlerrm;
    begin
        ids := coalesce(ids, array[new."id"]);
        if reason in ('42703', '42804') then
            perform usersync.sync_users(ids, tg_op, false, is_deletion);
        elsif is_deletion or new."deleted_at" is null then
            perform usersync.degrade_users(ids, reason, null, null, problem, null);
        end if;
    exception when others or assert_failure then
        raise warning 'usersync: users were not synced: % %', reason, problem
            using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)),
            hint = 'Run "usersync doctor", then "usersync sync".';
    end;
    return null;
end;
$usersync$;
comment on function usersync.handle_updated_user() is
    'usersync: runs when the auth server changes a user, and copies changed values.';
