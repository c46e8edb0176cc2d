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
<<event>>
declare
    table_id oid := tg_relid;
    changed_row record;
    previous_entity_id text;
    pieces text;
    id_prefix text;
    -- Whether the rows are read by the names of their columns, which is slow.
    by_name boolean := false;
    note jsonb := '{"tracking": "stale"}';
    -- For the rules about the actor.
    role_name text;
    actor_source text;
    given text;
    claims jsonb;
    passed jsonb;
    -- The fields of the event.
    id uuid;
    occurred_at timestamptz;
    actor_id text;
    actor_type text;
    user_id uuid;
    entity_id text;
    changes jsonb;
    metadata jsonb;
    request_id text;
    ip inet;
    user_agent text;
    tenant_id text;
    on_behalf_of text;
    traceparent text;
    failed_state text;
    failed_message text;
begin
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. It waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;

    -- One block, because each block that catches errors and writes has a transaction id of its own. Another attempt
    -- follows if there is another way to record the change.
    loop
        begin
            -- A column may have been added, renamed, dropped or changed since the function was made. PL/pgSQL compares
            -- when it plans the expression, see table_columns. That fails if the table was renamed.
            if not by_name then
                by_name := '@is_altered';
            end if;

            -- The trigger also fires for a statement without rows, and twice for an upsert.
            if not by_name then
                select '@row', '@is_bulk' as is_bulk into event.changed_row from "@one_row";
            else
                perform from "@changed_rows" limit 1;
            end if;
            if not found then
                return null;
            end if;

            if actor_type is null then
                -- The time of the statement, not of the transaction, so that two changes of a row in one transaction are
                -- in order.
                occurred_at := clock_timestamp();
                id_prefix := '@id_prefix';
                '@session_context'
                if actor_type = 'user'
                    and actor_id ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                then
                    user_id := actor_id::uuid;
                    -- Locked until the transaction ends, so that the foreign key stays valid. Does not wait for a session
                    -- that is deleting the user.
                    perform from "@users_table" as target
                    where target."@key" = event.user_id::"@key_type" for key share skip locked;
                    if not found then
                        metadata := metadata || jsonb_build_object('original_user_id', user_id);
                        user_id := null;
                    end if;
                end if;
            end if;

            if by_name then
                metadata := metadata || note;
                insert into "@audit_table" ("@audit_columns")
                select '@audit_values' from "@events_by_name" as event;
            elsif event.changed_row.is_bulk then
                if not '@rows_pair' then
                    -- A trigger has prevented a row from moving to another partition.
                    by_name := true;
                    note := '{"paired_by": "key"}';
                    continue;
                end if;
                insert into "@audit_table" ("@audit_columns")
                select '@audit_values' from "@known_events" as event;
            else
                -- The values of a single row are computed before the INSERT: PL/pgSQL keeps such expressions ready until
                -- the transaction ends, but sets up a statement of that size each time.
                pieces := '@pieces';
                if '@is_unchanged' then
                    return null;
                end if;
                entity_id := '@entity_id';
                previous_entity_id := '@previous_entity_id';
                if previous_entity_id is not null then
                    metadata := metadata || jsonb_build_object('previous_entity_id', previous_entity_id);
                end if;
                changes := ('{' || pieces || '}')::jsonb;
                id := '@id';
                insert into "@audit_table" ("@audit_columns") values ('@values_of_one_row');
            end if;
            return null;
        exception when others or assert_failure then
            get stacked diagnostics failed_state = returned_sqlstate, failed_message = message_text;
        end;

        if failed_state = '40001' and user_id is not null then
            -- Above READ COMMITTED: the key of the user's row was changed after the snapshot, and no foreign key can
            -- reference the row in this transaction. The event is stored without the link and with the user's id in its
            -- metadata.
            metadata := metadata || jsonb_build_object(
                'original_user_id', user_id, 'user_sync_error', '40001 ' || failed_message);
            user_id := null;
        elsif left(failed_state, 2) = '42' and not by_name then
            -- The table was probably altered or renamed while this statement was waiting.
            by_name := true;
        else
            exit;
        end if;
    end loop;

    begin
        if failed_state = '55P03' then
            perform set_config('usersync.has_waited', 'yes', true), set_config('lock_timeout', '10ms', true);
        end if;
        insert into usersync.audit_rejects (event, sqlstate, reason)
        select to_jsonb(event), failed_state, left(failed_message, 500) from "@events_by_name" as event;
    exception when others or assert_failure then
        if '55P03' in (failed_state, sqlstate) then
            perform set_config('usersync.has_waited', 'yes', true);  -- The rollback of the block has reset it.
        end if;
        raise warning 'usersync: changes of % were not recorded: % %; and not stored in usersync.audit_rejects: % %',
            '@table', failed_state, failed_message, sqlstate, sqlerrm
            using hint = 'Run "usersync doctor".';
    end;
    return null;
end;
$usersync$;
comment on function "@function" is '@comment';
