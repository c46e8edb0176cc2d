-- Trigger on the auth server's table, after DELETE, for each row. Raises nothing. All rows of a statement are handled
-- when the trigger fires for the first one, see handle_new_user.
create or replace function usersync.handle_deleted_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    last_row text := 'usersync.last_deleted_user_' || pg_trigger_depth();
    last_id text := current_setting(last_row, true);
    ids uuid[];
    without_row uuid[];
    reason text;
    problem text;
begin
    if last_id <> '' then
        if last_id = old."id"::text then
            last_id := set_config(last_row, '', true);
        end if;
        return null;
    end if;

    begin
        if tg_relid <> '@source_table'::regclass then
            -- Another relation has this trigger. Its code must not run with the rights of this function's owner.
            raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
            return null;
        end if;
        ids := array[old."id"];
        if (select true from old_users offset 1 limit 1) is null
            or not tg_name > any (usersync.row_triggers(tg_relid, 8))
        then
            ids := array(select old_users."id" from old_users);
        end if;
        if usersync.records_user_events() then
            without_row := usersync.users_without_row(ids);
        end if;
        perform usersync.sync_users(ids, tg_op, false, true);
        if cardinality(without_row) > 0 then
            -- A foreign key or a trigger of the application deletes the row before this trigger fires. Skipped users have no
            -- events. If a soft deletion has deleted the row, it has recorded the event.
            without_row := array(
                select old_users."id" from old_users
                where old_users."id" = any(without_row) and ('@was_not_skipped')
                    and (old_users."deleted_at" is null or '@on_soft_delete' <> 'delete')
            );
            perform usersync.record_user_events(
                'user.deleted', without_row, array_fill(
                    '{"metadata": {"how": "hard", "auth_user": "deleted"}}'::jsonb, array[cardinality(without_row)]),
                false, tg_op);
        end if;
    exception when others or assert_failure then
        -- One of usersync's own functions is missing or was changed.
        reason := sqlstate;
        problem := sqlerrm;
    end;
    if reason is not null then
        begin
            perform usersync.degrade_users(ids, reason, null, null, problem, null);
        exception when others or assert_failure then
            raise warning 'usersync: deleted users were not synced: % %', reason, problem
                using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)),
                hint = 'Run "usersync doctor", then "usersync sync".';
        end;
    end if;
    if cardinality(ids) > 1 then
        last_id := set_config(last_row, ids[cardinality(ids)]::text, true);
    end if;
    return null;
end;
$usersync$;
comment on function usersync.handle_deleted_user() is
    'usersync: runs when the auth server deletes users, and applies on_delete to their rows.';
