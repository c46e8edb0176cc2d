-- Trigger on a tracked table, after each statement: records one event for each changed row. Generated for this table
-- and this operation with all columns written out, because reading the catalog at run time would take longer than
-- everything else.
--
-- Raises nothing, and waits for a lock no longer than lock_timeout. A change that cannot be recorded goes to
-- usersync.audit_rejects, and if that fails, to the server's log.
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
    tenant_id text;
    on_behalf_of text;
    role_name text;
    claims jsonb;
    passed jsonb;
    given text;
    metadata jsonb;
    failed_state text;
    failed_message text;
begin
    -- The trigger also fires for a statement without rows, and twice for an upsert.
    tracking.row_count := (select count(*) from (select from "@changed_rows" limit 2) as few);
    if tracking.row_count = 0 then
        return null;
    end if;

    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. It waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;

    begin
        -- The time of the statement, not of the transaction, so that two changes of a row in one transaction are in
        -- order.
        tracking.occurred_at := clock_timestamp();
        tracking.id_prefix := '@id_prefix';
        tracking.passed := usersync.context_of_request();
        tracking.request_id := left(
            coalesce(nullif(current_setting('usersync.request_id', true), ''), nullif(passed ->> 'request_id', '')), 200);
        tracking.tenant_id := left(
            coalesce(nullif(current_setting('usersync.tenant_id', true), ''), nullif(passed ->> 'tenant_id', '')), 200);
        tracking.user_agent := left(nullif(current_setting('usersync.user_agent', true), ''), 2000);

        -- The actor: from the application's settings, otherwise from the header of a service key, otherwise from the
        -- Data API's claims, otherwise the database role.
        tracking.role_name := coalesce(nullif(current_setting('role'), 'none'), session_user);
        tracking.metadata := case
            when tracking.role_name = session_user then '{}' else jsonb_build_object('role', tracking.role_name)
        end;
        tracking.on_behalf_of := left(nullif(current_setting('usersync.on_behalf_of', true), ''), 200);
        tracking.actor_id := left(nullif(current_setting('usersync.actor_id', true), ''), 200);
        tracking.actor_type := nullif(current_setting('usersync.actor_type', true), '');
        tracking.actor_source := 'setting';
        if tracking.actor_id is null and tracking.actor_type is null and passed is not null then
            tracking.actor_id := left(nullif(passed ->> 'actor_id', ''), 200);
            tracking.actor_type := nullif(passed ->> 'actor_type', '');
            tracking.on_behalf_of := left(nullif(passed ->> 'on_behalf_of', ''), 200);
            tracking.actor_source := 'header';
        end if;
        if (tracking.actor_id is null and tracking.actor_type is null)
            or (tracking.tenant_id is null and '@tenant_claim' is not null)
        then
            tracking.given := nullif(current_setting('request.jwt.claims', true), '');
            if tracking.given is not null then
                begin
                    tracking.claims := tracking.given::jsonb;
                exception when others then
                    tracking.claims := null;  -- Any session can set this to any text. The change is recorded anyway.
                end;
                tracking.tenant_id := left(coalesce(tracking.tenant_id, nullif(claims #>> '@tenant_claim', '')), 200);
            end if;
        end if;
        if tracking.actor_id is not null or tracking.actor_type is not null then
            if tracking.actor_type is null or tracking.actor_type not in ('user', 'service', 'system', 'anonymous') then
                tracking.actor_type := 'user';
            end if;
        else
            if tracking.given is not null then
                tracking.actor_id := left(coalesce(nullif(claims ->> 'sub', ''), claims ->> 'role'), 200);
                -- With impersonation (RFC 8693), "act" names who really acts.
                if claims #>> '{act,sub}' <> '' then
                    tracking.on_behalf_of := left(nullif(claims ->> 'sub', ''), 200);
                    tracking.actor_id := left(claims #>> '{act,sub}', 200);
                end if;
                tracking.actor_type := case
                    when claims #>> '{act,sub}' <> '' then 'user'
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
            -- Locked until the transaction ends, so that the foreign key stays valid. Does not wait for a session that
            -- is deleting the user.
            perform from "@users_table" as target where target."@key" = tracking.user_id::"@key_type" for key share skip locked;
            if not found then
                tracking.metadata := tracking.metadata || jsonb_build_object('original_user_id', tracking.user_id);
                tracking.user_id := null;
            end if;
        end if;

        if '@rows_do_not_pair' then
            raise exception 'a trigger prevented a row from moving to another partition, so old and new rows cannot be paired'
                using errcode = 'data_exception';
        end if;
        -- A single row is computed before the INSERT: PL/pgSQL keeps such expressions ready until the transaction ends,
        -- but sets up a statement of that size each time.
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
        -- Above READ COMMITTED: the key of the user's row was changed after the snapshot, and no foreign key can
        -- reference the row in this transaction. The event is stored without the link and with the user's id in its
        -- metadata.
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
        -- A column was probably dropped or renamed. Record the remaining ones by name.
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
        perform set_config('usersync.has_waited', 'yes', true);  -- The rollback of the block has reset it.
    end if;
    raise warning 'usersync: changes of % were not recorded: % %; and not stored in usersync.audit_rejects: % %',
        '@table', tracking.failed_state, tracking.failed_message, sqlstate, sqlerrm
        using hint = 'Run "usersync doctor".';
    return null;
end;
$usersync$;
comment on function "@function" is '@comment';
