-- Trigger on the auth server's table, after INSERT, for each row. Raises nothing.
--
-- When the trigger fires for the first row of a statement, it syncs all rows of the statement: an import is one INSERT.
-- So all rows exist for every trigger that fires after this one. For the other rows it does nothing: a setting of the
-- transaction holds the id of the statement's last row until the trigger fires for that row. Each trigger depth has its
-- own setting, because a trigger of the application may insert users in between. A rolled-back block also rolls back
-- its settings. Where a trigger of the application fires before this one, each row of a larger statement is synced by
-- itself: that trigger may insert the user's row.
--
-- Nearly every sign-up needs only one INSERT, so the trigger tries that first, with the rows of the statement. It
-- leaves the rows to sync_users while usersync is paused; where something may change the written row (a trigger of the
-- application for INSERT, or partitions, which may have one); where a check is deferred; where a column needs its
-- DEFAULT; where the transaction has changed users already, because the statement's rows may be outdated; above READ
-- COMMITTED; and where the INSERT fails for any reason.
--
-- PL/pgSQL reads the catalog when it plans these expressions, not at each sign-up, see stores_rows_unchanged. The same
-- expression runs again after the INSERT, which may have waited for a session that altered the table. If a rule has
-- changed the INSERT, its result stays and is recorded: sync_users could not write to such a table either.
create or replace function usersync.handle_new_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
#variable_conflict use_column
declare
    last_row text := 'usersync.last_new_user_' || pg_trigger_depth();
    last_id text := current_setting(last_row, true);
    started timestamptz := clock_timestamp();
    inserted bigint := 0;
    has_failed boolean := false;
    ids uuid[];
    reason text;
    problem text;
    is_simple boolean;
begin
    if last_id <> '' then
        if last_id = new."id"::text then
            last_id := set_config(last_row, '', true);
        end if;
        return null;
    end if;

    if current_setting('usersync.has_changed_users', true) is distinct from 'yes'
        and current_setting('transaction_isolation') = 'read committed'
    then
        begin
            is_simple := tg_relid = '@source_table'::regclass and not usersync.has_pause('usersync.pause'::regclass)
                and usersync.stores_rows_unchanged('@users_table'::regclass, '@source_table'::regclass);
            if is_simple and tg_name > any (usersync.row_triggers('@source_table'::regclass, 4)) then
                is_simple := (select true from new_users offset 1 limit 1) is null;
            end if;
            if is_simple and usersync.has_default('@users_table'::regclass, array['@defaultable_columns']) then
                is_simple := not exists (select from new_users as source where '@lacks_default');
            end if;
            if is_simple then
                insert into "@users_table" ("@columns")
                select '@plain_values' from new_users as source where source."deleted_at" is null and ('@is_expected');
                get diagnostics inserted = row_count;
                if not usersync.stores_rows_unchanged('@users_table'::regclass, '@source_table'::regclass) then
                    raise exception 'the users table was altered meanwhile';
                end if;
                if usersync.has_rules('@users_table'::regclass) then
                    perform usersync.record_out_of_sync_users(array(select new_users."id" from new_users), false);
                end if;
            end if;
        exception when others or assert_failure then
            inserted := 0;
            if sqlstate = '55P03' then
                perform set_config('usersync.has_waited', 'yes', true);
            end if;
            has_failed := true;
        end;
        if inserted = 1 then
            return null;
        end if;
    end if;

    begin
        if tg_relid <> '@source_table'::regclass then
            -- Another relation has this trigger. Its code must not run with the rights of this function's owner.
            raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
            return null;
        end if;
        ids := array[new."id"];
        if inserted > 0 or (select true from new_users offset 1 limit 1) is null
            or not tg_name > any (usersync.row_triggers(tg_relid, 4))
        then
            ids := array(select new_users."id" from new_users);
        end if;
        if has_failed then
            perform usersync.count_failed_attempt(started, false);
        end if;
        if inserted = 0 then
            perform usersync.sync_users(ids, tg_op, false);
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
            raise warning 'usersync: new users were not synced: % %', reason, problem
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
comment on function usersync.handle_new_user() is
    'usersync: runs when the auth server creates users, and gives each a row in the users table.';
