-- Trigger on the auth server's table, after INSERT, for each row. Raises nothing.
--
-- At the turn of a statement's first row, all rows of the statement are synced at once: an import is one INSERT, and
-- each row is there for every trigger that fires after this one. The turns of the other rows do nothing: a setting of
-- the transaction holds the id of the statement's last row until that row's turn. There is one setting for each depth
-- of triggers, because a trigger of the application may insert users between two of these turns. A block that is
-- rolled back takes its settings along. Where a trigger of the application fires before this one, each row of a
-- larger statement is synced at its own turn: that trigger may insert the user's row itself.
--
-- Nearly every sign-up needs one INSERT and nothing else, so that is tried first, with the rows as they came in. It is
-- left to sync_users while usersync is paused, where something might change what is written (a trigger of the
-- application's for INSERT, or partitions, which may have one), where a check is deferred, where the DEFAULT of a column
-- is wanted, where the transaction has changed users already (what came in need not be what is there by now), above READ
-- COMMITTED, and where the INSERT fails, for whatever reason. What is in the catalog is looked up when PL/pgSQL plans
-- these expressions, not at each sign-up: see usersync.stores_rows_unchanged. It is asked again behind the INSERT, which may
-- have waited for somebody who altered the table. What a rule has made of the INSERT stays, and is noted: sync_users could
-- not write to such a table.
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
            -- Somebody has put another relation in its place. What that would run, it would run as our owner.
            raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
            return null;
        end if;
        if inserted = 0 and (select true from new_users offset 1 limit 1)
            and tg_name > any (usersync.row_triggers(tg_relid, 4))
        then
            ids := array[new."id"];
        else
            ids := array(select new_users."id" from new_users);
        end if;
        if has_failed then
            perform usersync.count_failed_attempt(started, false);
        end if;
        if inserted = 0 then
            perform usersync.sync_users(ids, tg_op, false);
        end if;
    exception when others or assert_failure then
        -- One of our own functions is gone or was changed.
        reason := sqlstate;
        problem := sqlerrm;
    end;
    if reason is not null then
        begin
            perform usersync.degrade_users(ids, reason, null, null, problem, null);
        exception when others or assert_failure then
            raise warning 'usersync: new users were not synced: % %', reason, problem
                using detail = 'Users: ' || left(array_to_string(ids, ', '), 1000),
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
    'usersync: runs when the auth server makes users, and gives each a row in the users table.';
