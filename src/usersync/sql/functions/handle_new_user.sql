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
-- DEFAULT; where the transaction has changed users already, because the statement's rows may be outdated; where the
-- transaction has waited for a lock; above READ COMMITTED; where an event of the user is recorded and the audit log has
-- triggers; and where an INSERT fails for any reason.
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
<<recording>>
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
    records_events boolean := false;
    is_recorded boolean := false;
    event_id uuid;
    occurred_at timestamptz;
    id_prefix text;
    actor_id text;
    actor_type text;
    metadata jsonb;
    request_id text;
    ip inet;
    user_agent text;
    tenant_id text;
    on_behalf_of text;
    traceparent text;
    entity_id text;
    db_role text;
    stored_in oid;
begin
    if last_id <> '' then
        if last_id = new."id"::text then
            last_id := set_config(last_row, '', true);
        end if;
        return null;
    end if;

    if current_setting('usersync.has_changed_users', true) is distinct from 'yes'
        and current_setting('usersync.has_waited', true) is distinct from 'yes'
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
            if usersync.has_user_events('usersync.user_event_requests'::regclass, false) then
                records_events := true;
                is_simple := is_simple
                    and not usersync.has_user_events('usersync.user_event_requests'::regclass, true)
                    and usersync.stores_events_at_once('@audit_table'::regclass);
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
                is_recorded := records_events and inserted = 1 and new."deleted_at" is null and ('@is_new_expected');
                if is_recorded then
                    -- See record_user_events. If this fails, sync_users inserts the row again. The values are computed
                    -- outside of the INSERT: PL/pgSQL keeps such expressions ready until the transaction ends.
                    occurred_at := clock_timestamp();
                    id_prefix := '@id_prefix';
                    event_id := (id_prefix || substr(gen_random_uuid()::text, 16))::uuid;
                    entity_id := new."id"::text;
                    db_role := session_user;
                    if current_setting('role') = 'none' and '' = all (array[
                        coalesce(current_setting('request.jwt.claims', true), ''),
                        coalesce(current_setting('usersync.actor_id', true), ''),
                        coalesce(current_setting('usersync.actor_type', true), ''),
                        coalesce(current_setting('usersync.on_behalf_of', true), ''),
                        coalesce(current_setting('usersync.tenant_id', true), ''),
                        coalesce(current_setting('usersync.request_id', true), ''),
                        coalesce(current_setting('usersync.ip', true), ''),
                        coalesce(current_setting('usersync.user_agent', true), '')
                    ]) then
                        -- The usual sign-up.
                        actor_id := db_role;
                        actor_type := 'system';
                        metadata := '{"origin": "trigger", "actor_source": "role"}';
                    else
                        select passed.actor_id, passed.actor_type, passed.on_behalf_of, passed.tenant_id,
                            passed.request_id, passed.ip, passed.user_agent, passed.traceparent,
                            passed.metadata || '{"origin": "trigger"}'
                        into actor_id, actor_type, on_behalf_of, tenant_id, request_id, ip, user_agent, traceparent, metadata
                        from usersync.user_event_context() as passed;
                    end if;
                    insert into "@audit_table" ("@audit_columns")
                    select '@audit_values' from "@new_user_event" as event
                    returning tableoid::oid into strict stored_in;
                    if usersync.fires_on_insert(stored_in) then
                        raise exception 'the partition of the audit log has a trigger';
                    end if;
                end if;
            end if;
        exception when others or assert_failure then
            inserted := 0;
            is_recorded := false;
            if sqlstate = '55P03' then
                perform set_config('usersync.has_waited', 'yes', true);
            end if;
            has_failed := true;
        end;
        if records_events and inserted > 0 and not is_recorded then
            begin
                perform usersync.record_created_users(
                    array(
                        select source."id" from new_users as source where source."deleted_at" is null and ('@is_expected')
                    ),
                    null, tg_op);
            exception when others or assert_failure then
                raise warning 'usersync: user.created was not recorded: % %', sqlstate, sqlerrm
                    using hint = 'Run "usersync doctor".';
            end;
        end if;
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
