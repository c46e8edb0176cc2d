-- Trigger on a table that is tracked, after each statement: one event for each row that changed. Made for this
-- table and this operation, with its columns written out, because finding them out at run time would cost more
-- than everything else here.
--
-- Raises nothing and waits for no lock longer than lock_timeout. What cannot be recorded goes to
-- usersync.audit_rejects; if that fails too, into the server's log.
create or replace function "@function" returns trigger
language plpgsql security definer
set search_path = pg_catalog, "@pinned"
set lock_timeout = '@lock_timeout'
as $usersync$
#variable_conflict use_column
<<tracking>>
declare
    table_id oid := tg_relid;
    row_count integer;
    changed_row record;
    entity_id text;
    previous_entity_id text;
    pieces text;
    occurred_at timestamptz;
    id_prefix text;
    actor_source text;
    actor_id text;
    actor_type text;
    user_id uuid;
    request_id text;
    ip inet;
    user_agent text;
    role_name text;
    claims jsonb;
    given text;
    metadata jsonb;
    failed_state text;
    failed_message text;
begin
    -- A statement that found no row fires this all the same, and an upsert fires it for both of its halves.
    tracking.row_count := (select count(*) from (select from "@changed_rows" limit 2) as few);
    if tracking.row_count = 0 then
        return null;
    end if;

    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once, which is all that it is held up for.
        perform set_config('lock_timeout', '10ms', true);
    end if;

    begin
        -- The statement's own time, and not the transaction's: two changes of a row in one transaction are in
        -- order then.
        tracking.occurred_at := clock_timestamp();
        tracking.id_prefix := '@id_prefix';
        tracking.request_id := left(nullif(current_setting('usersync.request_id', true), ''), 200);
        tracking.user_agent := left(nullif(current_setting('usersync.user_agent', true), ''), 2000);

        -- Who: as the application says, else as the API's gateway says, else as the database says.
        tracking.role_name := coalesce(nullif(current_setting('role'), 'none'), session_user);
        tracking.metadata := jsonb_build_object('db_role', session_user);
        if tracking.role_name <> session_user then
            tracking.metadata := tracking.metadata || jsonb_build_object('role', tracking.role_name);
        end if;
        tracking.actor_id := left(nullif(current_setting('usersync.actor_id', true), ''), 200);
        tracking.actor_type := nullif(current_setting('usersync.actor_type', true), '');
        if tracking.actor_id is not null or tracking.actor_type is not null then
            tracking.actor_source := 'setting';
            if tracking.actor_type is null or tracking.actor_type not in ('user', 'service', 'system', 'anonymous') then
                tracking.actor_type := 'user';
            end if;
        else
            tracking.given := nullif(current_setting('request.jwt.claims', true), '');
            if tracking.given is not null then
                begin
                    tracking.claims := tracking.given::jsonb;
                exception when others then
                    tracking.claims := null;  -- Whoever has a session can set anything; it is no reason to record nothing.
                end;
                tracking.actor_id := left(coalesce(nullif(claims ->> 'sub', ''), claims ->> 'role'), 200);
                tracking.actor_type := case
                    when claims ->> 'role' = 'service_role' then 'service'
                    when nullif(claims ->> 'sub', '') is not null then 'user'
                    when claims ->> 'role' = 'anon' then 'anonymous'
                    else 'service'
                end;
            end if;
            tracking.actor_source := 'jwt';
            if tracking.actor_id is null then
                tracking.actor_source := 'role';
                tracking.actor_id := tracking.role_name;
                tracking.actor_type := 'system';
            end if;
        end if;
        tracking.metadata := tracking.metadata || jsonb_build_object('actor_source', tracking.actor_source);

        tracking.given := nullif(current_setting('usersync.ip', true), '');
        if tracking.given is not null then
            begin
                tracking.ip := tracking.given::inet;
            exception when others then
                tracking.metadata := tracking.metadata || jsonb_build_object('ip', left(tracking.given, 200));
            end;
        end if;

        if tracking.actor_type = 'user'
            and tracking.actor_id ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
        then
            tracking.user_id := tracking.actor_id::uuid;
            -- Held until the transaction ends, so that the foreign key holds. A user whom somebody is deleting
            -- at this moment is not waited for.
            perform from "@users_table" as target where target."@key" = tracking.user_id::"@key_type" for key share skip locked;
            if not found then
                tracking.metadata := tracking.metadata || jsonb_build_object('original_user_id', tracking.user_id);
                tracking.user_id := null;
            end if;
        end if;

        if '@rows_do_not_pair' then
            raise exception 'a trigger kept a row from moving to another partition: which row became which is unknown'
                using errcode = 'data_exception';
        end if;
        -- A single row is looked at outside of the statement that stores it, because such expressions are kept
        -- ready until the transaction ends, and a statement of that size is set up anew each time.
        if tracking.row_count = 1 and '@fits_a_record' then
            select '@row' into tracking.changed_row from "@one_row";
            tracking.entity_id := '@entity_id';
            tracking.previous_entity_id := '@previous_entity_id';
            tracking.pieces := '@pieces';
            insert into "@audit_table" ("@audit_columns")
            select '@audit_values' from "@event_of_one_row" as event;
        else
            insert into "@audit_table" ("@audit_columns")
            select '@audit_values' from "@known_events" as event;
        end if;
        return null;
    exception when others or assert_failure then
        get stacked diagnostics failed_state = returned_sqlstate, failed_message = message_text;
    end;

    if tracking.failed_state = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true), set_config('lock_timeout', '10ms', true);
    end if;
    if tracking.failed_state = '40001' and tracking.user_id is not null then
        -- Above READ COMMITTED, a key of the user's row was changed since the snapshot, and PostgreSQL lets nothing
        -- refer to the row in this transaction. The event keeps its place, and the user's id as a fact.
        tracking.metadata := tracking.metadata || jsonb_build_object(
            'original_user_id', tracking.user_id, 'user_sync_error', '40001 ' || tracking.failed_message);
        tracking.user_id := null;
        begin
            insert into "@audit_table" ("@audit_columns")
            select '@audit_values' from "@known_events" as event;
            return null;
        exception when others or assert_failure then
            get stacked diagnostics failed_state = returned_sqlstate, failed_message = message_text;
        end;
    end if;
    if left(tracking.failed_state, 2) = '42' then
        -- Most likely a column was dropped or renamed. Go on with those that are still there, by name.
        begin
            insert into "@audit_table" ("@audit_columns")
            select '@audit_values' from "@stale_events" as event;
            return null;
        exception when others or assert_failure then
            get stacked diagnostics failed_state = returned_sqlstate, failed_message = message_text;
        end;
    end if;

    insert into usersync.audit_rejects (event, sqlstate, reason)
    select to_jsonb(event), tracking.failed_state, left(tracking.failed_message, 500) from "@stale_events" as event;
    return null;
exception when others or assert_failure then
    if '55P03' in (tracking.failed_state, sqlstate) then
        perform set_config('usersync.has_waited', 'yes', true);  -- What was set above is undone by now.
    end if;
    raise warning 'usersync: changes of % were not recorded: % %; and not put aside: % %',
        '@table', tracking.failed_state, tracking.failed_message, sqlstate, sqlerrm
        using hint = 'Run "usersync doctor".';
    return null;
end;
$usersync$;
comment on function "@function" is '@comment';
