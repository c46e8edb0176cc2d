-- What usersync adds to a database, read from the catalog. To refresh: UPDATE_GOLDEN=1 pytest
-- tests/schema/test_golden_schema.py --pg 18

-- function public.ensure_user_exists(uuid)
owner postgres; usersync: makes sure that this user has a row in the users table; false if there is no such user.
CREATE OR REPLACE FUNCTION public.ensure_user_exists(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    if usersync.user_exists(user_id) then
        return true;
    end if;
    -- False would say that there is no such user.
    perform usersync.refuse_read_only();
    perform usersync.sync_on_request(array[user_id], 'ENSURE');
    return usersync.user_exists(user_id);
exception when undefined_table or undefined_column then
    return false;
end;
$function$


-- function public.ensure_user_exists(uuid) granted to service_role
EXECUTE

-- function public.record_audit_events(jsonb)
owner postgres; usersync: stores a JSON array of audit events, each exactly once.
CREATE OR REPLACE FUNCTION public.record_audit_events(events jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    called_through_api boolean := coalesce(current_setting('request.path', true) = '/rpc/record_audit_events', false);
    headers jsonb := case when called_through_api then nullif(current_setting('request.headers', true), '')::jsonb end;
    belongs_to text := case
        when called_through_api then coalesce(headers ->> 'usersync-belongs-to', '*')
        else nullif(current_setting('usersync.belongs_to', true), '')
    end;
    makes_partitions boolean := usersync.owns_transaction() and (events = '[]' or called_through_api);
    place text;
    result record;
    rejects jsonb;
    unknown bigint;
begin
    if belongs_to is not null then
        place := usersync.database_position();
        if belongs_to = '?' or (belongs_to <> '*' and not starts_with(place || ' ', belongs_to || ' ')) then
            return jsonb_build_object('position', place);
        end if;
    end if;
    if usersync.audit_log() is null then
        raise exception 'there is no audit log in this database (to create it: usersync audit enable)'
            using errcode = 'US301';
    end if;
    if events is null or jsonb_typeof(events) <> 'array' then
        raise exception 'expected a JSON array of events' using errcode = 'invalid_parameter_value';
    end if;
    select complete.events, complete.unknown into events, unknown from usersync.complete_events(events) as complete;
    if headers ? 'usersync-try' then
        begin
            result := usersync.store_event_batch(events, false, false);
            raise exception using errcode = 'triggered_action_exception';
        exception when triggered_action_exception then
            return jsonb_build_object('stored', result.stored, 'position', place);
        end;
    end if;
    result := usersync.store_event_batch(events, false, false);
    if makes_partitions then
        -- Last, because it locks the users table against writes until the transaction ends.
        perform usersync.make_audit_partitions();
    end if;
    if result.rejected > 0 then
        -- A caller that rolls back cannot read them from the table. A few are enough to find the cause. The application
        -- logs the answer, so it quotes no value of an event.
        select jsonb_agg(jsonb_build_object(
            'id', few.event -> 'id',
            'action', few.event -> 'action',
            'reason', case
                when few.sqlstate like 'P0%' then 'a function of the application raised SQLSTATE ' || few.sqlstate
                else usersync.redact_message(few.sqlstate, few.reason)
            end
        ))
        into rejects
        from (
            select kept.event, kept.sqlstate, kept.reason
            from jsonb_array_elements(events) as sent
            join usersync.audit_rejects as kept
                on kept.fingerprint = sha256(convert_to(sent::text, 'UTF8'))
            limit 5
        ) as few;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'stored', result.stored,
        'duplicates', jsonb_array_length(events) - result.stored - result.rejected,
        'rejected', result.rejected,
        'rejects', rejects,
        'unknown', nullif(unknown, 0),
        'position', place
    ));
end;
$function$


-- function public.record_audit_events(jsonb) granted to service_role
EXECUTE

-- function public.sync_existing_auth_users(uuid, integer)
owner postgres; usersync: syncs the users table with the auth server's, all at once or page by page.
CREATE OR REPLACE FUNCTION public.sync_existing_auth_users(first_id uuid DEFAULT NULL::uuid, page_size integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    page record;
    compared record;
    cursor_id uuid := coalesce(first_id, '00000000-0000-0000-0000-000000000000');
    synced bigint := 0;
    errors bigint := 0;
    examined bigint := 0;
    orphaned bigint := 0;
    deleted_upstream bigint := 0;
begin
    perform usersync.refuse_while_paused();
    if page_size < 1 then
        raise exception 'page_size must be at least 1, not %', page_size using errcode = 'invalid_parameter_value';
    end if;
    if first_id is null and page_size is null then
        compared := usersync.compare_tables();
        if compared.in_step then
            return jsonb_build_object(
                'synced', 0, 'errors', 0, 'examined', compared.examined, 'orphaned', compared.orphaned,
                'deleted_upstream', compared.deleted_upstream, 'next_id', null);
        end if;
    end if;
    loop
        page := usersync.reconcile_page(
            cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', coalesce(sync_existing_auth_users.page_size, 5000), false);
        examined := examined + page.examined;
        errors := errors + page.degraded + page.failed;
        synced := synced + page.missing + page.stale;
        orphaned := orphaned + page.orphaned;
        deleted_upstream := deleted_upstream + page.deleted_upstream;
        cursor_id := page.next_id;
        exit when cursor_id is null or page_size is not null;
    end loop;
    return jsonb_build_object(
        'synced', greatest(synced - errors, 0), 'errors', errors, 'examined', examined, 'orphaned', orphaned,
        'deleted_upstream', deleted_upstream, 'next_id', cursor_id);
end;
$function$


-- function public.sync_existing_auth_users(uuid, integer) granted to service_role
EXECUTE

-- function public.user_sync_status()
owner postgres; usersync: the number of users in both tables, and of missing, stale, orphaned, skipped, deleted upstream and failed users.
CREATE OR REPLACE FUNCTION public.user_sync_status()
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '5s'
AS $function$
#variable_conflict use_column
declare
    page record;
    cursor_id uuid := '00000000-0000-0000-0000-000000000000'::uuid;
    compared record := usersync.compare_tables();
    auth_users bigint := 0;
    users bigint := 0;
    missing bigint := 0;
    stale bigint := 0;
    orphaned bigint := 0;
    skipped bigint := 0;
    deleted_upstream bigint := 0;
    oldest_missing timestamptz;
begin
    if compared.in_step then
        auth_users := compared.auth_users;
        users := compared.users;
        skipped := compared.skipped;
        orphaned := compared.orphaned;
        deleted_upstream := compared.deleted_upstream;
        cursor_id := null;
    end if;
    while cursor_id is not null loop
        page := usersync.reconcile_page(cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 20000, true);
        auth_users := auth_users + page.auth_users;
        users := users + page.users;
        missing := missing + page.missing;
        stale := stale + page.stale;
        orphaned := orphaned + page.orphaned;
        skipped := skipped + page.skipped;
        deleted_upstream := deleted_upstream + page.deleted_upstream;
        oldest_missing := least(oldest_missing, page.oldest_missing);
        cursor_id := page.next_id;
    end loop;
    return jsonb_build_object(
        'auth_users', auth_users,
        'users', users,
        'missing', missing,
        'stale', stale,
        'orphaned', orphaned,
        'skipped', skipped,
        'deleted_upstream', deleted_upstream,
        'oldest_missing_at', oldest_missing
    ) || usersync.failure_status();
end;
$function$


-- function public.user_sync_status() granted to service_role
EXECUTE

-- function public.usersync(text, jsonb)
owner postgres; usersync: the client operations that have no function of their own.
CREATE OR REPLACE FUNCTION public.usersync(operation text, arguments jsonb DEFAULT '{}'::jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '5s'
AS $function$
#variable_conflict use_column
<<given>>
declare
    user_id uuid := (arguments ->> 'user_id')::uuid;
    run_id uuid := (arguments ->> 'run_id')::uuid;
    page_size integer := (arguments ->> 'page_size')::integer;
    ids uuid[];
begin
    if (arguments ->> 'create')::boolean then
        return usersync.run_with_row_creation(operation, arguments);
    end if;
    case operation
    when 'position' then
        return to_jsonb(usersync.database_position());
    when 'user_exists' then
        return to_jsonb(usersync.user_exists(user_id));
    when 'ensure_user_exists' then
        return to_jsonb(public.ensure_user_exists(user_id));
    when 'sync_user' then
        perform usersync.refuse_read_only();
        return to_jsonb(usersync.sync_user(user_id, false)) || jsonb_build_object(
            'copied', '"auth"."users"'::regclass is not distinct from to_regclass('usersync.auth_users'));
    when 'remove_user' then
        perform usersync.refuse_read_only();
        return to_jsonb(usersync.sync_user(user_id, true));
    when 'retry_users' then
        perform usersync.refuse_while_paused();
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        perform usersync.retry_users(ids);
        return to_jsonb(cardinality(ids));
    when 'removal_policies' then
        return jsonb_build_object('on_delete', 'anonymize', 'on_soft_delete', 'anonymize');
    when 'remove_users' then
        perform usersync.refuse_while_paused();
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        return to_jsonb(usersync.remove_deleted_users(ids, arguments ->> 'kind'));
    when 'record_removal' then
        return to_jsonb(usersync.record_admin_action(
            case arguments ->> 'kind' when 'orphaned' then 'usersync.orphans_removed' else 'usersync.deletions_applied' end,
            jsonb_strip_nulls(jsonb_build_object(
                'policy', case arguments ->> 'kind' when 'orphaned' then 'anonymize' else 'anonymize' end,
                'found', (arguments ->> 'found')::bigint,
                'removed', (arguments ->> 'removed')::bigint,
                'failed', (arguments ->> 'failed')::bigint,
                'by', arguments ->> 'by'
            ))
        ));
    when 'statement_timeout' then
        -- In milliseconds; 0 means no limit.
        return (select to_jsonb(setting::integer) from pg_settings where name = 'statement_timeout');
    when 'pause' then
        return to_jsonb(usersync.pause_triggers(arguments ->> 'by'));
    when 'resume' then
        return usersync.resume_triggers(arguments ->> 'by');
    when 'await_paused' then
        -- Transactions that saw the pause lock the table until they end, see is_paused.
        lock table usersync.pause in exclusive mode;
        return null;
    when 'record_retry' then
        return to_jsonb(usersync.record_admin_action('usersync.failures_retried', jsonb_strip_nulls(jsonb_build_object(
            'users', (arguments ->> 'users')::bigint,
            'synced', (arguments ->> 'synced')::bigint,
            'by', arguments ->> 'by'
        ))));
    when 'ledger_status' then
        return usersync.failure_status();
    when 'failures' then
        return usersync.list_failures(
            user_id, (arguments ->> 'after_time')::timestamptz, (arguments ->> 'after_id')::uuid, page_size);
    when 'failed_ids' then
        return to_jsonb(array(
            select distinct failure.user_id from usersync.sync_failures as failure
            where (given.user_id is null or failure.user_id = given.user_id)
                and (arguments ->> 'after_id' is null or failure.user_id > (arguments ->> 'after_id')::uuid)
                and (arguments ->> 'sqlstate' is null or failure.sqlstate = arguments ->> 'sqlstate')
                and ((arguments ->> 'due')::boolean is not true or failure.next_try_at is null or failure.next_try_at <= now())
            order by failure.user_id limit given.page_size
        ));
    when 'count_failed' then
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        return (
            select jsonb_build_object(
                'degraded', count(*) filter (where failure.outcome = 'degraded' and failure.kind = 'row'),
                'failed', count(*) filter (where failure.outcome = 'failed' and failure.kind = 'row'),
                'removal_failed', count(*) filter (where failure.kind = 'removal'),
                'event_failed', count(distinct failure.user_id) filter (where failure.kind = 'event')
            )
            from usersync.sync_failures as failure
            where (given.user_id is null or failure.user_id = given.user_id)
                and case
                    -- Those who were tried a moment ago.
                    when arguments ? 'ids' then failure.user_id = any(given.ids)
                    else failure.kind = 'event' or failure.user_id <> all((select usersync.resolved_failures())::uuid[])
                end
        );
    when 'search_audit_log' then
        return usersync.search_audit_log(
            coalesce(arguments -> 'wanted', '{}'),
            nullif(arguments -> 'after', 'null'),
            coalesce((arguments ->> 'oldest_first')::boolean, false),
            page_size);
    when 'number_events' then
        return to_jsonb(usersync.number_events());
    when 'read_events' then
        return usersync.read_events(
            (arguments ->> 'after')::bigint, coalesce(arguments -> 'wanted', '{}'), page_size);
    when 'unlink_events' then
        return to_jsonb(usersync.unlink_events(user_id, page_size));
    when 'count_users' then
        return jsonb_build_object(
            'users', (select count(target."id") from "public"."users" as target where true),
            'auth_users', (select count(*) from "auth"."users"));
    when 'compare' then
        return to_jsonb(usersync.reconcile_page(
            (arguments ->> 'first_id')::uuid, (arguments ->> 'last_id')::uuid, page_size, true));
    when 'compare_at_once' then
        return to_jsonb(usersync.compare_tables());
    when 'start_run' then
        if (arguments ->> 'retries_all')::boolean then
            update usersync.sync_failures set next_try_at = null where next_try_at is not null;
        end if;
        perform usersync.start_run(
            run_id,
            array(select id::uuid from jsonb_array_elements_text(arguments -> 'first_ids') as id),
            array(select id::uuid from jsonb_array_elements_text(arguments -> 'last_ids') as id),
            page_size,
            (arguments ->> 'examined')::bigint);
        return null;
    when 'unfinished_run' then
        return (
            select coalesce(jsonb_agg(to_jsonb(run) order by run.part), '[]')
            from usersync.sync_runs as run
            where run.run_id = (
                select unfinished.run_id from usersync.sync_runs as unfinished
                where unfinished.state <> 'finished' order by unfinished.updated_at desc limit 1
            )
        );
    when 'run_part' then
        return (
            select to_jsonb(run) from usersync.sync_runs as run
            where run.run_id = given.run_id and run.part = (arguments ->> 'part')::integer
        );
    when 'advance_run' then
        return to_jsonb(usersync.advance_run(run_id, (arguments ->> 'part')::integer));
    when 'limit_pages' then
        update usersync.sync_runs as run set page_size = least(run.page_size, given.page_size)
        where run.run_id = given.run_id and run.part = (arguments ->> 'part')::integer;
        return null;
    when 'interrupt_run' then
        update usersync.sync_runs as run set state = 'interrupted', updated_at = clock_timestamp()
        where run.run_id = given.run_id and run.state = 'running';
        return null;
    when 'receive_users' then
        return to_jsonb(usersync.receive_users(
            arguments -> 'users', coalesce((arguments ->> 'seen_at')::timestamptz, clock_timestamp())));
    when 'start_receiving' then
        perform usersync.receive_users('[]', now());
        return to_jsonb(clock_timestamp());
    when 'count_unseen' then
        return to_jsonb(usersync.count_unlisted((arguments ->> 'since')::timestamptz));
    when 'unseen_ids' then
        return to_jsonb(array(
            select stored.id from usersync.auth_users as stored
            where stored.seen_at < (arguments ->> 'since')::timestamptz
                and (arguments ->> 'after_id' is null or stored.id > (arguments ->> 'after_id')::uuid)
            order by stored.id limit given.page_size
        ));
    when 'forget_user' then
        delete from usersync.auth_users as stored
        where stored.id = given.user_id and stored.seen_at < (arguments ->> 'since')::timestamptz;
        return null;
    else
        raise exception 'the installed usersync has no operation %', quote_nullable(operation)
            using errcode = 'US302', hint = 'It may be older than the client. Run: usersync apply';
    end case;
end;
$function$


-- function public.usersync(text, jsonb) granted to service_role
EXECUTE

-- function usersync.adopt_search_path(text, text)
owner postgres; usersync: sets the search path that a function of the application needs.
CREATE OR REPLACE FUNCTION usersync.adopt_search_path(function_name text, search_path text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    execute format('alter function %s set search_path = %s', function_name::regprocedure, adopt_search_path.search_path);
    insert into usersync.adopted (kind, name, function_name, definition, function_definition)
    select 'search_path', oid::regprocedure::text, oid::regprocedure::text, array_to_string(proconfig, ', '), ''
    from pg_proc where oid = function_name::regprocedure
    on conflict (kind, name) do update set definition = excluded.definition, adopted_at = now();
end;
$function$


-- function usersync.adopt_trigger(text)
owner postgres; usersync: saves the definition of a trigger on the auth server's table before usersync replaces it.
CREATE OR REPLACE FUNCTION usersync.adopt_trigger(trigger_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    adopted record;
begin
    -- Takes the lock that removing the trigger needs, and not a weaker one first. Otherwise a sign-up that has read the
    -- table and waits to write to it would deadlock with this transaction.
    lock table only "auth"."users" in access exclusive mode;
    select
        pg_get_triggerdef(pg_trigger.oid) as definition,
        tgfoid::regprocedure::text as function_name,
        concat_ws(E';\n',
            pg_get_functiondef(tgfoid),
            format('comment on function %s is %L', tgfoid::regprocedure, obj_description(tgfoid, 'pg_proc')),
            case when proacl is not null then format('revoke all on function %s from public', tgfoid::regprocedure) end,
            (
                select string_agg(
                    format(
                        'grant execute on function %s to %s', tgfoid::regprocedure,
                        case when grantee = 0 then 'public' else grantee::regrole::text end
                        || case when is_grantable then ' with grant option' else '' end
                    ),
                    E';\n'
                )
                from aclexplode(proacl) where grantee <> proowner
            )
        ) as function_definition
    into strict adopted
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '"auth"."users"'::regclass and tgname = adopt_trigger.trigger_name and not tgisinternal;

    insert into usersync.adopted (kind, name, function_name, definition, function_definition)
    values (
        'trigger', adopt_trigger.trigger_name, adopted.function_name, adopted.definition, adopted.function_definition
    )
    on conflict (kind, name) do update set
        function_name = excluded.function_name,
        definition = excluded.definition,
        function_definition = excluded.function_definition,
        moved_to = null,
        adopted_at = now();
end;
$function$


-- function usersync.advance_run(uuid, integer)
owner postgres; usersync: syncs the next page of one part of a run.
CREATE OR REPLACE FUNCTION usersync.advance_run(run_id uuid, part integer)
 RETURNS usersync.sync_runs
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    run usersync.sync_runs;
    page record;
begin
    perform usersync.refuse_while_paused();
    select * into strict run from usersync.sync_runs as run
    where run.run_id = advance_run.run_id and run.part = advance_run.part
    for update;
    if run.next_id is null then
        return run;
    end if;
    page := usersync.reconcile_page(run.next_id, run.last_id, run.page_size, false);
    update usersync.sync_runs as run set
        state = case when page.next_id is null then 'finished' else 'running' end,
        next_id = page.next_id,
        examined = run.examined + page.examined,
        missing = run.missing + page.missing,
        stale = run.stale + page.stale,
        orphaned = run.orphaned + page.orphaned,
        deleted_upstream = run.deleted_upstream + page.deleted_upstream,
        degraded = run.degraded + page.degraded,
        failed = run.failed + page.failed,
        updated_at = clock_timestamp()
    where run.run_id = advance_run.run_id and run.part = advance_run.part
    returning run.* into run;
    return run;
end;
$function$


-- function usersync.audit_conditions(jsonb)
owner postgres; usersync: the filters of a search as a condition in SQL.
CREATE OR REPLACE FUNCTION usersync.audit_conditions(wanted jsonb)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    templates constant jsonb := E'{"time": "stored.\\"occurred_at\\"", "tie": "coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\"", "select": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from \\"public\\".\\"audit_logs\\" as stored", "numbered": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from (select stored.ctid, stored.* from \\"public\\".\\"audit_logs\\" as stored where stored.id = numbered.event_id and stored.occurred_at = all (array[numbered.occurred_at]) and stored.occurred_at >= all (array[%1$L::timestamptz]) and stored.occurred_at <= all (array[%2$L::timestamptz]) offset 0) as stored", "filters": {"id": "stored.\\"id\\" = %L::uuid", "user_id": "stored.\\"user_id\\" = %L::uuid", "actor_id": "stored.\\"actor_id\\" = %L::text", "entity_type": "stored.\\"entity_type\\" = %L::text", "entity_id": "stored.\\"entity_id\\" = %L::text", "action": "stored.\\"action\\" = %L::text", "outcome": "stored.\\"outcome\\" = %L::text", "request_id": "stored.\\"request_id\\" = %L::text", "tenant_id": "stored.\\"tenant_id\\" = %L::text", "on_behalf_of": "stored.\\"on_behalf_of\\" = %L::text", "severity": "stored.\\"severity\\" = %L::text", "words": "exists (select from (select jsonb_build_array(to_jsonb(stored.\\"metadata\\"), to_jsonb(stored.\\"changes\\")) as document offset 0) as found where position(lower(%2$L) in lower(found.document::text)) > 0 and exists (select from jsonb_path_query(found.document, ''strict $.** ? (@.type() != \\"object\\" && @.type() != \\"array\\")'') as each (value) where position(lower(%1$L) in lower(each.value #>> ''{}'')) > 0))", "since": "stored.\\"occurred_at\\" >= %L::timestamptz", "until": "stored.\\"occurred_at\\" < %L::timestamptz"}, "prefix": "stored.\\"action\\" like %L", "shards": "(get_byte(sha256(convert_to(coalesce(stored.\\"entity_type\\"::text || ''/'' || stored.\\"entity_id\\"::text, numbered.event_id::text), ''UTF8'')), 0) & 15) = any (%L)"}'::jsonb;
    filter record;
    template text;
    conditions text[] := array['true'];
begin
    for filter in
        select key as name, value #>> '{}' as value from jsonb_each(wanted) where key not in ('actions', 'shards') order by key
    loop
        template := templates -> 'filters' ->> filter.name;
        if template is null then
            raise exception 'the installed usersync has no filter %', quote_nullable(filter.name)
                using errcode = 'US302', hint = 'It may be older than the client. Run: usersync apply';
        end if;
        if filter.name = 'action' and filter.value like '%*' then
            template := templates ->> 'prefix';
            filter.value :=
                replace(replace(replace(left(filter.value, -1), E'\\', E'\\\\'), '%', E'\\%'), '_', E'\\_') || '%';
        end if;
        if filter.name = 'words' then
            -- The text of the complete document is searched first: most documents do not contain the word, and need not
            -- be split into values. There, a word is written as in JSON.
            conditions := conditions || array(
                select format(template, word, substr(quoted, 2, length(quoted) - 2))
                from jsonb_array_elements(wanted -> 'words') as element (value),
                    lateral (select element.value #>> '{}', element.value::text) as each (word, quoted)
            );
        else
            conditions := conditions || format(template, filter.value);
        end if;
    end loop;
    -- A subscription has several actions, and its worker some of its shards.
    if wanted ? 'actions' then
        conditions := conditions || (
            select '(' || string_agg(usersync.audit_conditions(jsonb_build_object('action', each_one.action)), ' or ') || ')'
            from jsonb_array_elements_text(wanted -> 'actions') as each_one (action)
        );
    end if;
    if wanted ? 'shards' then
        conditions := conditions || format(templates ->> 'shards', translate(wanted ->> 'shards', '[]', '{}'));
    end if;
    return array_to_string(conditions, ' and ');
end;
$function$


-- function usersync.audit_log()
owner postgres; usersync: the audit log, or null if there is none.
CREATE OR REPLACE FUNCTION usersync.audit_log()
 RETURNS regclass
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select (select pg_class.oid::regclass from pg_class where pg_class.oid = to_regclass('"public"."audit_logs"') and relkind = 'p' and starts_with(obj_description(pg_class.oid, 'pg_class'), 'The audit log, made by usersync: '))
$function$


-- function usersync.audit_query(jsonb, jsonb, boolean)
owner postgres; usersync: the query for the events that match all filters, in the order of their times.
CREATE OR REPLACE FUNCTION usersync.audit_query(wanted jsonb, after jsonb, oldest_first boolean)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    templates constant jsonb := E'{"time": "stored.\\"occurred_at\\"", "tie": "coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\"", "select": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from \\"public\\".\\"audit_logs\\" as stored", "numbered": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from (select stored.ctid, stored.* from \\"public\\".\\"audit_logs\\" as stored where stored.id = numbered.event_id and stored.occurred_at = all (array[numbered.occurred_at]) and stored.occurred_at >= all (array[%1$L::timestamptz]) and stored.occurred_at <= all (array[%2$L::timestamptz]) offset 0) as stored", "filters": {"id": "stored.\\"id\\" = %L::uuid", "user_id": "stored.\\"user_id\\" = %L::uuid", "actor_id": "stored.\\"actor_id\\" = %L::text", "entity_type": "stored.\\"entity_type\\" = %L::text", "entity_id": "stored.\\"entity_id\\" = %L::text", "action": "stored.\\"action\\" = %L::text", "outcome": "stored.\\"outcome\\" = %L::text", "request_id": "stored.\\"request_id\\" = %L::text", "tenant_id": "stored.\\"tenant_id\\" = %L::text", "on_behalf_of": "stored.\\"on_behalf_of\\" = %L::text", "severity": "stored.\\"severity\\" = %L::text", "words": "exists (select from (select jsonb_build_array(to_jsonb(stored.\\"metadata\\"), to_jsonb(stored.\\"changes\\")) as document offset 0) as found where position(lower(%2$L) in lower(found.document::text)) > 0 and exists (select from jsonb_path_query(found.document, ''strict $.** ? (@.type() != \\"object\\" && @.type() != \\"array\\")'') as each (value) where position(lower(%1$L) in lower(each.value #>> ''{}'')) > 0))", "since": "stored.\\"occurred_at\\" >= %L::timestamptz", "until": "stored.\\"occurred_at\\" < %L::timestamptz"}, "prefix": "stored.\\"action\\" like %L", "shards": "(get_byte(sha256(convert_to(coalesce(stored.\\"entity_type\\"::text || ''/'' || stored.\\"entity_id\\"::text, numbered.event_id::text), ''UTF8'')), 0) & 15) = any (%L)"}'::jsonb;
    event_time constant text := format(templates ->> 'time');
    tie constant text := format(templates ->> 'tie');
    direction constant text := case when oldest_first then 'asc' else 'desc' end;
    conditions text;
begin
    perform usersync.require_audit_log();
    if event_time is null then
        raise exception 'audit.columns: neither occurred_at nor recorded_at is mapped, so events have no order'
            using errcode = 'US101', hint = 'Map occurred_at to the column with the time.';
    end if;
    conditions := usersync.audit_conditions(wanted);
    if after is not null then
        -- The first condition is redundant: it lets an index be used.
        conditions := format('%1$s and %2$s %3$s= %4$L and (%2$s %3$s %4$L or %5$s %3$s %6$L)',
            conditions, event_time, case when oldest_first then '>' else '<' end, after ->> 'time', tie, after ->> 'tie');
    end if;
    return format('%1$s where %2$s order by %3$s %4$s, %5$s %4$s',
        format(templates ->> 'select'), conditions, event_time, direction, tie);
end;
$function$


-- function usersync.auth_user_exists(uuid)
owner postgres; usersync: whether the auth server has this user, not soft-deleted.
CREATE OR REPLACE FUNCTION usersync.auth_user_exists(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return exists (
        select from "auth"."users" as source where source."id" = auth_user_exists.user_id and source."deleted_at" is null
    );
exception when others then
    return true;
end;
$function$


-- function usersync.backfill_events(text, bigint, bigint)
owner postgres; usersync: the events of existing users for a subscription.
CREATE OR REPLACE FUNCTION usersync.backfill_events(subscription text, after bigint, until bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(event) order by event.number), '[]')
        from (
            select
                listed.number,
                -- The id is the same in each attempt, and differs between backfills.
                left(encode(sha256(convert_to(concat_ws(
                    ' ', backfill.subscription, backfill.requested_at, listed.user_id
                ), 'UTF8')), 'hex'), 32)::uuid as id,
                coalesce(source."created_at", backfill.requested_at) as occurred_at,
                backfill.requested_at as recorded_at,
                'user.created' as action,
                'succeeded' as outcome,
                null as actor_id,
                'system' as actor_type,
                listed.user_id,
                'user' as entity_type,
                listed.user_id::text as entity_id,
                null as changes,
                jsonb '{"backfill": true, "origin": "backfill"}' as metadata,
                null as request_id,
                null as ip,
                null as user_agent,
                'sync' as source,
                null as tenant_id,
                null as on_behalf_of,
                null as db_role,
                null as traceparent,
                null::text as severity,
                listed.user_id::text as tie
            from usersync.backfill_events as listed
            join usersync.backfills as backfill on backfill.subscription = listed.subscription
            join "auth"."users" as source on source."id" = listed.user_id and source."deleted_at" is null
            join "public"."users" as target on target."id" = listed.user_id and (true)
            where listed.subscription = backfill_events.subscription
                and listed.number > backfill_events.after and listed.number <= backfill_events.until
        ) as event
    );
end;
$function$


-- function usersync.check_deferred_constraints()
owner postgres; usersync: checks deferred constraints before COMMIT.
CREATE OR REPLACE FUNCTION usersync.check_deferred_constraints()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    checked text := coalesce(current_setting('usersync.checked_constraints', true), '');
begin
    if checked = 'all' then
        set constraints all immediate;
    elsif checked <> '' then
        execute 'set constraints ' || checked || ' immediate';
    end if;
end;
$function$


-- function usersync.check_events_stored(jsonb)
owner postgres; usersync: raises an error unless these events are in the audit log.
CREATE OR REPLACE FUNCTION usersync.check_events_stored(events jsonb)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if exists (
        select from (
            select (each_event ->> 'id')::uuid as id from jsonb_array_elements(events) as each_event
        ) as given
        where not exists (select from "public"."audit_logs" as stored where stored."id" = given.id)
    ) then
        raise exception 'a trigger on the audit log returned null, so the event was not stored'
            using errcode = 'triggered_data_change_violation';
    end if;
end;
$function$


-- function usersync.column_default(text)
owner postgres; usersync: the DEFAULT of a column of the users table for a new row.
CREATE OR REPLACE FUNCTION usersync.column_default(column_name text)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
#variable_conflict use_column
declare
    code text := (
        select pg_get_expr(adbin, adrelid)
        from pg_attrdef
        join pg_attribute on attrelid = adrelid and attnum = adnum
        where adrelid = '"public"."users"'::regclass and attname = column_default.column_name
    );
    computed text;
begin
    if code is not null then
        execute format('select (%s)::text', code) into computed;
    end if;
    return computed;
end;
$function$


-- function usersync.column_defaults()
owner postgres; usersync: the DEFAULTs of the mapped columns that use it if a user has no value.
CREATE OR REPLACE FUNCTION usersync.column_defaults()
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (-- The DEFAULTs of the mapped columns that use it if a user has no value, as one JSON object. A constant is text; null
-- stands for a DEFAULT that is computed for each row. Null if no such column has a DEFAULT. Read from the catalog each
-- time, because the application may change it.
select jsonb_object_agg(found.attname, case
    when found.code ~ '^''([^'']|'''')*''(::[a-zA-Z0-9_ "."\[\](),]+)?$'
        then replace(substring(found.code from '^''((?:[^'']|'''')*)'''), '''''', '''')
    else substring(found.code from '^\(?(-?[0-9.]+|true|false)\)?(?:::[a-z ]+)?$')
end)
from (
    select attname, pg_get_expr(adbin, adrelid) as code
    from pg_attrdef
    join pg_attribute on attrelid = adrelid and attnum = adnum
    where adrelid = to_regclass('"public"."users"') and attname in ('email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at')
) as found
where found.code !~* '^null(::|$)'
);
end;
$function$


-- function usersync.compare_tables()
owner postgres; usersync: compares both tables in one pass over each.
CREATE OR REPLACE FUNCTION usersync.compare_tables(OUT in_step boolean, OUT examined bigint, OUT auth_users bigint, OUT users bigint, OUT orphaned bigint, OUT deleted_upstream bigint, OUT skipped bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_mergejoin TO 'off'
AS $function$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    seed bigint := hashtextextended(gen_random_uuid()::text, 0);
    user_rows record;
    auth_rows record;
    deleted_rows record;
begin
    in_step := false;
    if exists (select from usersync.sync_failures) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where judged.is_current) as current,
        coalesce(sum(hash_record_extended(row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"), seed # uuid_hash_extended(target."id", seed)))
            filter (where judged.is_current), 0) as digests
    into user_rows
    from "public"."users" as target
    left join "auth"."users" as owner on target."id" = owner."id" and owner."deleted_at" is null
    cross join lateral (select target."deleted_at" is null) as judged (is_current)
    where target."id" is not null and (true);
    -- In a first run no user has a row. The digests of all auth users would be computed for nothing.
    if user_rows.current = 0 and true
        and exists (select from "auth"."users" as source where source."deleted_at" is null)
    then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where source."deleted_at" is null) as current,
        count(*) filter (where source."deleted_at" is null and judged.is_compared is not true) as skipped,
        coalesce(sum(hash_record_extended(row(source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then (known.defaults ->> 'email')::text end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then (known.defaults ->> 'phone')::text end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then (known.defaults ->> 'full_name')::text end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then (known.defaults ->> 'avatar_url')::text end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then (known.defaults ->> 'is_anonymous')::boolean end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then (known.defaults ->> 'email_confirmed_at')::timestamptz end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then (known.defaults ->> 'phone_confirmed_at')::timestamptz end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then (known.defaults ->> 'banned_until')::timestamptz end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then (known.defaults ->> 'created_at')::timestamptz end), source."deleted_at"), seed # uuid_hash_extended(source."id", seed)))
            filter (where source."deleted_at" is null and judged.is_compared), 0) as digests
    into auth_rows
    from "auth"."users" as source
    left join "public"."users" as target on target."id" = source."id" and (true)
    cross join lateral (select true) as judged (is_compared);
    if user_rows.digests <> auth_rows.digests and user_rows.current <= auth_rows.current - auth_rows.skipped then
        return;  -- An auth user has no row, or a row with other values.
    end if;
    examined := auth_rows.rows;
    orphaned := 0;
    deleted_upstream := 0;
    if user_rows.digests <> auth_rows.digests or user_rows.rows > user_rows.current then
        select
            count(*) filter (where owner."id" is null) as without_user,
            count(*) filter (where owner."id" is null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true) as orphaned,
            count(*) filter (where owner."id" is not null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true) as deleted_upstream,
            coalesce(sum(hash_record_extended(
                row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"), seed # uuid_hash_extended(target."id", seed)
            )) filter (where target."deleted_at" is null), 0) as digests
        into deleted_rows
        from "public"."users" as target
        left join "auth"."users" as owner on target."id" = owner."id"
        where target."id" is not null and (true) and (owner."id" is null or owner."deleted_at" is not null);
        examined := examined + deleted_rows.without_user;
        orphaned := deleted_rows.orphaned;
        deleted_upstream := deleted_rows.deleted_upstream;
        user_rows.digests := user_rows.digests - deleted_rows.digests;
    end if;
    in_step := user_rows.digests = auth_rows.digests;
    users := user_rows.rows;
    auth_users := auth_rows.current;
    skipped := auth_rows.skipped;
exception
    -- A type without a hash function, or too little disk space for a join.
    when undefined_function or insufficient_resources then
        in_step := false;
end;
$function$


-- function usersync.complete_events(jsonb)
owner postgres; usersync: adds missing ids, and moves unknown keys of events to their metadata.
CREATE OR REPLACE FUNCTION usersync.complete_events(INOUT events jsonb, OUT unknown bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    fields text[] := array(
        select attname::text from pg_attribute
        where attrelid = 'usersync.audit_event'::regclass and attnum > 0 and not attisdropped
    );
    given jsonb := events;
    event jsonb;
    extra jsonb;
    metadata jsonb;
    former jsonb;
    kept jsonb[] := '{}'::jsonb[];
begin
    unknown := 0;
    -- Nearly every batch is complete, so this check must be fast.
    if not exists (
        select from jsonb_array_elements(given) as each_event
        where case jsonb_typeof(each_event)
            when 'object' then each_event - fields <> '{}' or each_event ->> 'id' is null
        end
    ) then
        return;
    end if;
    for event in select each_event from jsonb_array_elements(given) as each_event loop
        if jsonb_typeof(event) = 'object' then
            if event ->> 'id' is null then
                event := jsonb_build_object('occurred_at', now()) || event || jsonb_build_object('id', gen_random_uuid());
            end if;
            extra := event - fields;
            metadata := coalesce(nullif(event -> 'metadata', 'null'), '{}');
            if extra <> '{}' and jsonb_typeof(metadata) = 'object' then
                former := coalesce(metadata -> 'unknown', '{}');
                if jsonb_typeof(former) <> 'object' then
                    former := jsonb_build_object('unknown', former);
                end if;
                event := event - array(select jsonb_object_keys(extra))
                    || jsonb_build_object('metadata', metadata || jsonb_build_object('unknown', former || extra));
                unknown := unknown + 1;
            end if;
        end if;
        kept := kept || event;
    end loop;
    events := to_jsonb(kept);
end;
$function$


-- function usersync.constraint_columns(text)
owner postgres; usersync: the columns of a constraint on the users table.
CREATE OR REPLACE FUNCTION usersync.constraint_columns(constraint_name text)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return (
        select array_agg(attname::text order by attnum)
        from pg_attribute
        where attrelid = '"public"."users"'::regclass
            and attnum = any(coalesce(
                (
                    select conkey from pg_constraint
                    where conrelid = '"public"."users"'::regclass and conname = constraint_columns.constraint_name
                ),
                (
                    select case
                        when indexprs is null then indkey::int2[]
                        -- For an index on an expression such as lower(username): the columns that the expression reads.
                        else array(
                            select refobjsubid::int2 from pg_depend
                            where classid = 'pg_class'::regclass and objid = indexrelid
                                and refclassid = 'pg_class'::regclass and refobjid = indrelid and refobjsubid > 0
                        )
                    end
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    where indrelid = '"public"."users"'::regclass and relname = constraint_columns.constraint_name
                )
            ))
    );
exception when others then
    return null;
end;
$function$


-- function usersync.context_of_request()
owner postgres; usersync: the audit context that a caller with a service key sends in a header.
CREATE OR REPLACE FUNCTION usersync.context_of_request()
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    context jsonb;
begin
    if current_setting('role') <> 'service_role' then
        return null;
    end if;
    begin
        context := (nullif(current_setting('request.headers', true), '')::jsonb ->> 'usersync-context')::jsonb;
    exception when others then
        return null;  -- Not JSON, or a text that jsonb cannot hold.
    end;
    return case when jsonb_typeof(context) = 'object' then context end;
end;
$function$


-- function usersync.count_failed_attempt(timestamp with time zone, boolean)
owner postgres; usersync: adds up the time of failed attempts in the auth server's transaction.
CREATE OR REPLACE FUNCTION usersync.count_failed_attempt(started timestamp with time zone, has_raised boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    spent numeric := coalesce(nullif(current_setting('usersync.spent_ms', true), ''), '0')::numeric
        + extract(epoch from clock_timestamp() - started) * 1000;
begin
    perform set_config('usersync.spent_ms', round(spent, 3)::text, true);
    if has_raised or spent >= '1000'::numeric then
        perform set_config('usersync.gives_up', 'yes', true);
    end if;
    return current_setting('usersync.gives_up', true) is not distinct from 'yes';
end;
$function$


-- function usersync.count_unlisted(timestamp with time zone)
owner postgres; usersync: how many users of the copy the admin API has not listed since a time.
CREATE OR REPLACE FUNCTION usersync.count_unlisted(since timestamp with time zone, OUT unseen bigint, OUT users bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    select count(*) filter (where stored.seen_at < count_unlisted.since), count(*)
    into count_unlisted.unseen, count_unlisted.users
    from usersync.auth_users as stored;
end;
$function$


-- function usersync.current_key(oid, text[])
owner postgres; usersync: the columns that identify a row of a tracked table.
CREATE OR REPLACE FUNCTION usersync.current_key(table_id oid, key_columns text[])
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    primary_key text[];
begin
    if key_columns <@ array(
        select attname::text from pg_attribute where attrelid = table_id and attnum > 0 and not attisdropped
    ) then
        return key_columns;
    end if;
    select array_agg(attname::text order by place) into primary_key
    from pg_index
    cross join unnest(indkey[:indnkeyatts - 1]) with ordinality as part (number, place)
    join pg_attribute on attrelid = indrelid and attnum = number
    where indrelid = table_id and indisprimary;
    return case when cardinality(primary_key) = cardinality(key_columns) then primary_key else key_columns end;
end;
$function$


-- function usersync.database_position()
owner postgres; usersync: the installation, the cluster and the timeline of this database.
CREATE OR REPLACE FUNCTION usersync.database_position()
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return concat_ws(
        ' ',
        coalesce((select only_row.installation::text from usersync.settings as only_row), '-'),
        (
            select concat(control.system_identifier, '/', this.oid)
            from pg_control_system() as control, pg_database as this
            where this.datname = current_database()
        ),
        case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end
    );
end;
$function$


-- function usersync.defer_constraints(text)
owner postgres; usersync: defers constraints again.
CREATE OR REPLACE FUNCTION usersync.defer_constraints(names text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    one text;
begin
    if names is null then
        return;
    end if;
    begin
        execute 'set constraints ' || names || ' deferred';
        return;
    exception when others then
        null;  -- Another constraint with one of these names is not deferrable.
    end;
    foreach one in array string_to_array(names, ', ') loop
        begin
            execute 'set constraints ' || one || ' deferred';
        exception when others then
            null;
        end;
    end loop;
end;
$function$


-- function usersync.degrade_users(uuid[], text, text, text, text, text)
owner postgres; usersync: gives users whose row was refused a minimal row, and records the reason.
CREATE OR REPLACE FUNCTION usersync.degrade_users(ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, error_context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
declare
    half integer;
    second_reason text;
    -- In the auth server's transaction, a trigger of the application that has raised for this user is not called again.
    may_try boolean := current_setting('usersync.gives_up', true) is distinct from 'yes'
        and (current_setting('usersync.in_request', true) is distinct from 'true'
            or usersync.find_raising_function(error_context) is null);
    resolved record;
begin
    ids := usersync.expected_users(ids);
    if cardinality(ids) = 0 then
        return;
    end if;
    half := cardinality(ids) / 2;
    if reason = '23505' and half = 0 and may_try and array['degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade'] && '{"null",suffix}' then
        select * into resolved from usersync.write_row_without_conflict(ids[1], failed_constraint);
        if resolved.written and resolved.lacking is null then
            delete from usersync.sync_failures where user_id = ids[1] and kind <> 'event';
            return;
        elsif resolved.written then
            failed_column := resolved.lacking;
            failed_constraint := resolved.lacking_for;
            error_message := format('duplicate key value violates unique constraint "%s"', failed_constraint);
        end if;
    end if;
    if reason = '55P03' then
        -- The sign-up has waited for this lock once. It does not wait again.
        perform set_config('lock_timeout', '10ms', true);
    elsif may_try then
        begin
            perform usersync.write_minimal_rows(ids);
        exception when others or assert_failure then
            second_reason := sqlstate;
        end;
    end if;
    if half > 0 and left(second_reason, 2) in ('22', '23', 'P0')
        and coalesce(current_setting('usersync.refusals', true), '') not like '%........'
    then
        perform usersync.degrade_users(
            ids[:half], reason, failed_constraint, failed_column, error_message, error_context);
        perform usersync.degrade_users(
            ids[half + 1:], reason, failed_constraint, failed_column, error_message, error_context);
        return;
    end if;
    perform usersync.record_failures(
        ids,
        reason,
        failed_constraint,
        coalesce(
            failed_column,
            array_to_string(usersync.constraint_columns(failed_constraint), ', '),
            case when reason ~ '^(22|23|42703|42804)' then usersync.find_invalid_column(ids[1]) end
        ),
        error_message,
        usersync.find_raising_function(error_context)
    );
exception when others or assert_failure then
    raise warning 'usersync: % user(s) were not synced, and the failures table could not be written', cardinality(ids)
        using detail = format(
            'Users: %s. Cause: %s %s. Failures table: %s %s.',
            left(array_to_string(ids, ', '), 1000), reason, usersync.redact_message(reason, error_message), sqlstate, sqlerrm),
        hint = 'Run "usersync doctor", then "usersync sync".';
end;
$function$


-- function usersync.describe_bytes(bytea)
owner postgres; usersync: the audit log's record of a bytea value.
CREATE OR REPLACE FUNCTION usersync.describe_bytes(given bytea)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
select '[bytes: ' || octet_length(given) || case
    when octet_length(given) <= 256 then ', base64 ' || translate(encode(given, 'base64'), E'\n', '')
    else ', sha256 ' || encode(sha256(given), 'hex')
end || ']'
$function$


-- function usersync.erase_keys(jsonb, text[], boolean, integer)
owner postgres; usersync: replaces the values under personal keys in a document.
CREATE OR REPLACE FUNCTION usersync.erase_keys(document jsonb, words text[], personal boolean DEFAULT false, depth integer DEFAULT 0)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    case jsonb_typeof(document)
    when 'object' then
        if personal or depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(jsonb_object_agg(entry.key, usersync.erase_keys(
                entry.value,
                words,
                exists (select from unnest(words) as word where position(word in spelt.key) > 0),
                depth + 1
            )), '{}')
            from jsonb_each(document) as entry
            cross join lateral (
                select concat('_', regexp_replace(lower(regexp_replace(
                    regexp_replace(entry.key collate "C", '([A-Z]+)([A-Z][a-z])', '\1_\2', 'g'),
                    '([a-z0-9])([A-Z])', '\1_\2', 'g'
                )), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', '_', 'g'), '_')
            ) as spelt (key)
        );
    when 'array' then
        if depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(
                jsonb_agg(usersync.erase_keys(element.value, words, personal, depth + 1) order by element.turn), '[]')
            from jsonb_array_elements(document) with ordinality as element (value, turn)
        );
    when 'string', 'number' then
        return case when personal then '"[erased]"'::jsonb else document end;
    else
        return document;
    end case;
end;
$function$


-- function usersync.erase_values(jsonb, text[])
owner postgres; usersync: replaces strings and numbers in a document that contain one of the given values.
CREATE OR REPLACE FUNCTION usersync.erase_values(document jsonb, wanted text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if document is null or not exists (
        select from unnest(wanted) as value
        where strpos(lower(document::text), lower(trim(both '"' from to_json(value)::text))) > 0
    ) then
        return document;
    end if;
    case jsonb_typeof(document)
    when 'object' then
        return (
            select jsonb_object_agg(entry.key, usersync.erase_values(entry.value, wanted))
            from jsonb_each(document) as entry
        );
    when 'array' then
        return (
            select jsonb_agg(usersync.erase_values(element.value, wanted) order by element.turn)
            from jsonb_array_elements(document) with ordinality as element (value, turn)
        );
    else
        return '"[erased]"'::jsonb;
    end case;
end;
$function$


-- function usersync.event_of_subscription(text, bigint)
owner postgres; usersync: the event with this number, for a subscription.
CREATE OR REPLACE FUNCTION usersync.event_of_subscription(subscription text, number bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    event jsonb := case
        when event_of_subscription.number < 0 then usersync.backfill_events(
            event_of_subscription.subscription, event_of_subscription.number - 1, event_of_subscription.number
        ) -> 0
        else usersync.read_events(event_of_subscription.number - 1, '{}', 1) -> 'events' -> 0
    end;
begin
    -- If the event no longer exists, the variable has the next one.
    return case when (event ->> 'number')::bigint = event_of_subscription.number then event end;
end;
$function$


-- function usersync.expected_users(uuid[])
owner postgres; usersync: filters users for whom a missing row is a failure.
CREATE OR REPLACE FUNCTION usersync.expected_users(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    unexpected uuid[];
begin
    -- Inside the block, so that the handler also catches a missing column of the auth server's table.
    unexpected := array(
        select source."id" from "auth"."users" as source
        where source."id" = any(expected_users.ids) and source."deleted_at" is null and (true) is not true
    );
    if cardinality(unexpected) > 0 then
        begin
            unexpected := array(
                select unnest(unexpected)
                except
                select target."id" from "public"."users" as target
                where target."id" = any(unexpected) and (true)
            );
        exception when others then
            null;  -- No table, no rows.
        end;
        ids := array(select id from unnest(ids) as id where id <> all(unexpected));
    end if;
    return ids;
exception when undefined_table or undefined_column then
    return ids;
end;
$function$


-- function usersync.fails_for_every_user(text, boolean)
owner postgres; usersync: whether every user is refused for the same reason.
CREATE OR REPLACE FUNCTION usersync.fails_for_every_user(cause text, counts boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    refusals text := coalesce(current_setting('usersync.refusals', true), '');
begin
    if counts then
        refusals := case when rtrim(refusals, '.') = cause then refusals else cause end || '.';
        perform set_config('usersync.refusals', refusals, true);
    end if;
    return starts_with(refusals, cause || '........');
end;
$function$


-- function usersync.failure_status()
owner postgres; usersync: the number of sync failures, the oldest one, and the result of the last run.
CREATE OR REPLACE FUNCTION usersync.failure_status()
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (
        select jsonb_build_object(
            'degraded', count(*) filter (where failure.outcome = 'degraded' and failure.kind = 'row'),
            'failed', count(*) filter (where failure.outcome = 'failed' and failure.kind = 'row'),
            'removal_failed', count(*) filter (where failure.kind = 'removal'),
            'event_failed', count(distinct failure.user_id) filter (where failure.kind = 'event'),
            'oldest_failure_at', min(failure.first_failed_at)
        )
        from usersync.sync_failures as failure
        where failure.kind = 'event' or failure.user_id <> all((select usersync.resolved_failures())::uuid[])
    ) || jsonb_build_object(
        'by_sqlstate', (
            select coalesce(jsonb_object_agg(counted.sqlstate, counted.users), '{}')
            from (
                select failure.sqlstate, count(distinct failure.user_id) as users
                from usersync.sync_failures as failure
                where failure.kind = 'event' or failure.user_id <> all((select usersync.resolved_failures())::uuid[])
                group by 1
            ) as counted
        )
    ) || jsonb_build_object(
        'last_run', (
            select jsonb_build_object(
                'run_id', run.run_id,
                'finished', bool_and(run.state = 'finished'),
                'updated_at', max(run.updated_at),
                'examined', sum(run.examined)
            )
            from usersync.sync_runs as run
            group by run.run_id
            order by max(run.updated_at) desc
            limit 1
        ),
        'paused', (
            select jsonb_build_object('paused_at', pause.paused_at, 'by', pause.paused_by) from usersync.pause
        ),
        'observed_at', clock_timestamp(),
        'read_only', case
            when pg_is_in_recovery() then 'standby'
            when current_setting('default_transaction_read_only')::boolean then 'setting'
        end
    );
end;
$function$


-- function usersync.feed_page(bigint, jsonb, integer)
owner postgres; usersync: a page of the numbered events that match all filters, as the text of a JSON document.
CREATE OR REPLACE FUNCTION usersync.feed_page(after bigint, wanted jsonb, page_size integer)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
declare
    templates constant jsonb := E'{"time": "stored.\\"occurred_at\\"", "tie": "coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\"", "select": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from \\"public\\".\\"audit_logs\\" as stored", "numbered": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from (select stored.ctid, stored.* from \\"public\\".\\"audit_logs\\" as stored where stored.id = numbered.event_id and stored.occurred_at = all (array[numbered.occurred_at]) and stored.occurred_at >= all (array[%1$L::timestamptz]) and stored.occurred_at <= all (array[%2$L::timestamptz]) offset 0) as stored", "filters": {"id": "stored.\\"id\\" = %L::uuid", "user_id": "stored.\\"user_id\\" = %L::uuid", "actor_id": "stored.\\"actor_id\\" = %L::text", "entity_type": "stored.\\"entity_type\\" = %L::text", "entity_id": "stored.\\"entity_id\\" = %L::text", "action": "stored.\\"action\\" = %L::text", "outcome": "stored.\\"outcome\\" = %L::text", "request_id": "stored.\\"request_id\\" = %L::text", "tenant_id": "stored.\\"tenant_id\\" = %L::text", "on_behalf_of": "stored.\\"on_behalf_of\\" = %L::text", "severity": "stored.\\"severity\\" = %L::text", "words": "exists (select from (select jsonb_build_array(to_jsonb(stored.\\"metadata\\"), to_jsonb(stored.\\"changes\\")) as document offset 0) as found where position(lower(%2$L) in lower(found.document::text)) > 0 and exists (select from jsonb_path_query(found.document, ''strict $.** ? (@.type() != \\"object\\" && @.type() != \\"array\\")'') as each (value) where position(lower(%1$L) in lower(each.value #>> ''{}'')) > 0))", "since": "stored.\\"occurred_at\\" >= %L::timestamptz", "until": "stored.\\"occurred_at\\" < %L::timestamptz"}, "prefix": "stored.\\"action\\" like %L", "shards": "(get_byte(sha256(convert_to(coalesce(stored.\\"entity_type\\"::text || ''/'' || stored.\\"entity_id\\"::text, numbered.event_id::text), ''UTF8'')), 0) & 15) = any (%L)"}'::jsonb;
    newest constant bigint := coalesce((select max(number) from usersync.event_numbers), 0);
    -- Not the newest number, which prune removes with its event.
    given constant bigint := coalesce((select feed.last_number from usersync.feed), 0);
    last_number bigint;
    earliest timestamptz;
    latest timestamptz;
    this bigint;
    stored text;
    events text[] := '{}'::text[];
    room integer := 64 * 1024 * 1024;
begin
    perform usersync.require_audit_log();
    if not true and not exists (
        select from usersync.noted_log as noted where noted.log = '"public"."audit_logs"' and noted.is_complete
    ) then
        raise exception 'the audit log % is the application''s own table, and its events have no numbers yet', '"public"."audit_logs"'
            using errcode = 'US101', hint = 'Call again: each call gives numbers to some of them. A worker does it, too.';
    end if;
    if after is null then
        return format('{"events": [], "position": %s, "more": false}', newest);
    end if;
    if after > greatest(newest, given) and not pg_is_in_recovery() then
        raise exception 'the position % is not of this feed: its last number is %', after, greatest(newest, given)
            using errcode = '22023', hint = 'The database was restored, lost events in a failover, or has a new '
                'installation of usersync. Compare what you have read with "usersync audit search". Then continue at 0, '
                'or at the position that a call without a position returns.';
    end if;
    select max(number), min(occurred_at), max(occurred_at) into last_number, earliest, latest from (
        select number, occurred_at from usersync.event_numbers where number > after order by number limit page_size
    ) as looked_at;
    for this, stored in execute format(
        'select page.number, %s from ('
        'select numbered.number, %s event.* from usersync.event_numbers as numbered cross join lateral ('
        '%s where %s) as event '
        'where numbered.number > $1 and numbered.number <= $2 order by numbered.number) as page',
        -- In a table of the application, an id may be any text.
        case when true then 'to_json(page)' else 'to_jsonb(page) || jsonb_build_object(''id'', page.event_id)' end,
        case when not true then 'numbered.event_id,' end,
        format(templates ->> 'numbered', earliest, latest), usersync.audit_conditions(wanted))
        using after, last_number
    loop
        events := array_append(events, stored);
        room := room - octet_length(stored);
        if room < 0 then
            last_number := this;
            exit;
        end if;
    end loop;
    return format(
        '{"events": [%s], "position": %s, "more": %s}',
        array_to_string(events, ','), coalesce(last_number, after), coalesce(last_number < newest, false)::text);
end;
$function$


-- function usersync.fields_of_row(record, oid)
owner postgres; usersync: the columns of a row of a tracked table.
CREATE OR REPLACE FUNCTION usersync.fields_of_row(changed_row record, table_id oid)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
begin
    return (
        with columns as (
            select attname, coalesce(nullif(typbasetype, 0), atttypid)::regtype as type,
                row_number() over (order by attnum) as position
            from pg_attribute join pg_type on pg_type.oid = atttypid
            where attrelid = table_id and attnum > 0 and not attisdropped
        ), pieces as (
            -- A comma and the value after it. A value with commas or quotes is quoted, and its quotes and backslashes
            -- are doubled.
            select match[1] as piece, position
            from regexp_matches(
                ',' || substr(concat(changed_row), 2, length(concat(changed_row)) - 2), ',("(?:[^"]|"")*"|[^",]*)', 'g'
            ) with ordinality as found (match, position)
        ), fields as (
            select attname, type, case
                when left(piece, 1) = '"' then replace(replace(
                    substr(piece, 2, length(piece) - 2), '""', '"'), E'\\\\', E'\\')
                else nullif(piece, '')
            end as value
            from columns join pieces using (position)
        )
        select jsonb_object_agg(attname, case
            when value is null then 'null'
            when type in ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision')
                then to_jsonb(value::numeric)
            when type = 'boolean'::regtype then to_jsonb(value::boolean)
            when type = 'timestamp'::regtype then to_jsonb(value::timestamp)
            when type = 'timestamptz'::regtype then to_jsonb(value::timestamptz)
            when type in ('json', 'jsonb') and usersync.is_valid_input(value, 'jsonb') then value::jsonb
            else to_jsonb(value)
        end)
        from fields
    );
end;
$function$


-- function usersync.find_invalid_column(uuid)
owner postgres; usersync: names the column that does not accept this user's value.
CREATE OR REPLACE FUNCTION usersync.find_invalid_column(user_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    name text;
    expression text;
begin
    for name, expression in
        select mapped.name, mapped.expression
        from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'coalesce(source."email", usersync.column_default(''email'')::text)', 'coalesce(source."phone", usersync.column_default(''phone'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}'', usersync.column_default(''full_name'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}'', usersync.column_default(''avatar_url'')::text)', 'coalesce(source."is_anonymous", usersync.column_default(''is_anonymous'')::boolean)', 'coalesce(source."email_confirmed_at", usersync.column_default(''email_confirmed_at'')::timestamptz)', 'coalesce(source."phone_confirmed_at", usersync.column_default(''phone_confirmed_at'')::timestamptz)', 'coalesce(source."banned_until", usersync.column_default(''banned_until'')::timestamptz)', 'coalesce(source."created_at", usersync.column_default(''created_at'')::timestamptz)', 'source."deleted_at"']) as mapped (name, expression)
    loop
        begin
            execute format(
                'select (jsonb_populate_record(null::%s, jsonb_build_object(%L, %s))).%I from %s as source '
                'where source."id" = $1',
                '"public"."users"', name, expression, name, '"auth"."users"'
            ) using user_id;
        exception when others then
            return name;
        end;
    end loop;
    return null;
end;
$function$


-- function usersync.find_out_of_sync_users(uuid[], boolean)
owner postgres; usersync: the users whose rows differ from what was written.
CREATE OR REPLACE FUNCTION usersync.find_out_of_sync_users(ids uuid[], applied_deletions boolean, OUT user_id uuid, OUT sqlstate text, OUT column_names text, OUT message text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    triggers text;
    suspects text;
begin
    select md5(string_agg(concat_ws(' ', tgname, tgenabled, md5(prosrc)), ', ' order by tgname))
    into triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '"public"."users"'::regclass and not tgisinternal;
    suspects := left((
        select string_agg(found.name, ', ' order by found.name) from (
            select 'trigger ' || tgname as name
            from pg_trigger
            join pg_proc on pg_proc.oid = tgfoid
            where tgrelid = '"public"."users"'::regclass and not tgisinternal and tgenabled <> 'D'
                and pronamespace <> 'usersync'::regnamespace
            union
            select 'rule ' || rulename from pg_rewrite where ev_class = '"public"."users"'::regclass and ev_type <> '1'
        ) as found
    ), 300);

    return query
    select
        examined.user_id,
        case when source."id" is not null and target."id" is not null then 'US001' else 'US002' end,
        nullif(array_to_string(case
            when source."id" is not null and target."id" is not null
                then array_remove(array[case when target."email" is distinct from coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end) then 'email' end, case when target."phone" is distinct from coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end) then 'phone' end, case when target."full_name" is distinct from coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end) then 'full_name' end, case when target."avatar_url" is distinct from coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end) then 'avatar_url' end, case when target."is_anonymous" is distinct from coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end) then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end) then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end) then 'phone_confirmed_at' end, case when target."banned_until" is distinct from coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end) then 'banned_until' end, case when target."created_at" is distinct from coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end) then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null)
        end, ', '), ''),
        case
            when source."id" is null then
                'The auth user is deleted, but the row was not changed. Skipped by: ' || coalesce(suspects, 'unknown')
            when target."id" is null and exists (
                select from "public"."users" as other where other."id" = examined.user_id
            ) then
                'A row that users_where leaves out has the id of this user.'
            when target."id" is null then
                'The row was written, but does not exist. Skipped or deleted by: ' || coalesce(suspects, 'unknown')
            else format(
                'The row was written, but has another value. Changed by: %s (as of %s).',
                coalesce(suspects, 'the type of the column'),
                left(md5(concat(triggers, row(source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end), source."deleted_at"), row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at"))), 8)
            )
        end
    from unnest(find_out_of_sync_users.ids) as examined (user_id)
    -- LATERAL with OFFSET 0, so that each row is found by its primary key, see write_full_rows.
    left join lateral (
        select source.* from "auth"."users" as source
        where source."id" = examined.user_id and source."deleted_at" is null offset 0
    ) as source on true
    left join lateral (
        select target.* from "public"."users" as target
        where target."id" = examined.user_id and (true) offset 0
    ) as target on true
    where case
        when source."id" is null then applied_deletions and target."id" is not null and case
            when exists (select from "auth"."users" as deleted where deleted."id" = examined.user_id)
            then (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true else (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true
        end
        when target."id" is null then true
        else row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end), source."deleted_at")
    end;
end;
$function$


-- function usersync.find_raising_function(text)
owner postgres; usersync: the application's function that raised an error; null if none did.
CREATE OR REPLACE FUNCTION usersync.find_raising_function(error_context text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    -- The context up to the first usersync function.
    below text := split_part(error_context, 'usersync.', 1);
    statement text;
    start integer;
    first_start integer := 0;
begin
    foreach statement in array array[
        'insert into ' || '"public"."users"', 'update ' || '"public"."users"', 'delete from ' || '"public"."users"', 'insert into ' || '"public"."audit_logs"',
        'set constraints '
    ] loop
        -- The last match is usersync's statement: a trigger of the application may write to the table as well.
        start := length(below) - coalesce(
            nullif(position(reverse(statement) in reverse(below)), 0) + length(statement) - 1, length(below));
        first_start := greatest(first_start, start);
    end loop;
    below := left(below, first_start);
    -- Every translation contains the name of the language: PL/pgSQL, PL/Python. The actions of foreign keys have no
    -- such line.
    below := substring(below from '[^\n]*PL/[^\n]*');
    -- The function's name with its arguments, at any place of the line.
    return case when below is not null then coalesce(
        substring(below from 'function ([^\n]{1,200})'),
        substring(below from '([[:alnum:]_.$"]+\([^()]{0,200}\)[^\n]{0,60})'),
        left(below, 200)
    ) end;
end;
$function$


-- function usersync.finish_events(text, jsonb, jsonb, jsonb, jsonb)
owner postgres; usersync: moves the positions of a subscription's shards, and stores the failed events and all attempts.
CREATE OR REPLACE FUNCTION usersync.finish_events(subscription text, shards jsonb, parked jsonb, tried jsonb, attempts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '5s'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    moved integer;
    numbers bigint[];
    next_ones bigint[];
begin
    update usersync.subscription_shards as shard set
        position = given.position,
        trying = null
    from jsonb_to_recordset(finish_events.shards) as given (shard integer, fence bigint, after bigint, position bigint)
    where shard.subscription = finish_events.subscription and shard.shard = given.shard and shard.fence = given.fence
        and shard.position = given.after;
    get diagnostics moved = row_count;
    if moved <> jsonb_array_length(finish_events.shards) then
        return false;
    end if;
    if parked <> '[]' then
        insert into usersync.parked_events (
            subscription, number, event_id, shard, entity_type, entity_id,
            state, attempts, next_try_at, last_tried_at, error
        )
        select
            finish_events.subscription, given.number, given.event_id,
            usersync.shard_of(given.entity_type, given.entity_id, given.event_id),
            -- Without both, it has no order.
            case when given.entity_id is not null then given.entity_type end,
            case when given.entity_type is not null then given.entity_id end,
            given.state, given.attempts, clock_timestamp() + make_interval(secs => given.delay),
            case when given.attempts > 0 then clock_timestamp() end,
            usersync.redact_message('', given.error)
        from jsonb_to_recordset(finish_events.parked) as given (
            number bigint, event_id uuid, entity_type text, entity_id text,
            state text, attempts integer, delay double precision, error text
        )
        on conflict do nothing;
    end if;
    if tried <> '[]' then
        numbers := array(
            select (given ->> 'number')::bigint from jsonb_array_elements(finish_events.tried) as given
            where given ->> 'state' <> 'waiting'
        );
        -- The next events of the entities that are free now.
        next_ones := array(
            select (
                select later.number from usersync.parked_events as later
                where later.subscription = finish_events.subscription and later.state = 'waiting'
                    and later.entity_id = ended.entity_id and later.entity_type = ended.entity_type
                    and later.number <> all(numbers)
                order by later.number limit 1
            )
            from usersync.parked_events as ended
            where ended.subscription = finish_events.subscription and ended.number = any(numbers)
        );
        update usersync.parked_events as parked set
            state = given.state,
            attempts = parked.attempts - coalesce(given.untried, false)::integer,
            next_try_at = clock_timestamp() + make_interval(secs => given.delay),
            error = coalesce(usersync.redact_message('', given.error), parked.error)
        from jsonb_to_recordset(finish_events.tried) as given (
            number bigint, state text, delay double precision, error text, untried boolean
        )
        where parked.subscription = finish_events.subscription and parked.number = given.number and given.state <> 'done';
        delete from usersync.parked_events as parked
        using jsonb_to_recordset(finish_events.tried) as given (number bigint, state text)
        where parked.subscription = finish_events.subscription and parked.number = given.number and given.state = 'done';
        update usersync.parked_events as parked set next_try_at = clock_timestamp()
        where parked.subscription = finish_events.subscription and parked.number = any(next_ones)
            and parked.next_try_at is null;
    end if;
    if attempts <> '[]' then
        insert into usersync.delivery_attempts (
            subscription, number, event_id, attempt, attempted_at, seconds, error, answer
        )
        select
            finish_events.subscription, made.number, made.event_id, made.attempt,
            clock_timestamp() - make_interval(secs => coalesce(made.ago, 0)), made.seconds,
            case when made.error is not null then usersync.redact_message('', made.error) end,
            left(made.answer, 200)
        from jsonb_to_recordset(finish_events.attempts) as made (
            number bigint, event_id uuid, attempt integer, ago double precision, seconds real, error text, answer text
        );
        if tried <> '[]' then
            delete from usersync.delivery_attempts as old
            using (
                select distinct (made ->> 'event_id')::uuid as event_id
                from jsonb_array_elements(finish_events.attempts) as made
            ) as event
            where old.subscription = finish_events.subscription and old.event_id = event.event_id
                and old.attempt_id < (
                    select min(kept.attempt_id) from (
                        select made.attempt_id from usersync.delivery_attempts as made
                        where made.subscription = finish_events.subscription and made.event_id = event.event_id
                        order by made.attempt_id desc limit 20
                    ) as kept
                );
        end if;
    end if;
    return true;
end;
$function$


-- function usersync.fires_on_insert(oid)
owner postgres; usersync: whether a trigger of the application fires for an INSERT into a table.
CREATE OR REPLACE FUNCTION usersync.fires_on_insert(relation oid)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
    return exists (
        select from pg_trigger where tgrelid = relation and (tgdeferrable or not tgisinternal and tgtype & 4 <> 0)
    );
end;
$function$


-- function usersync.guard_audit_partitions()
owner postgres; usersync: makes the partitions of the audit log refuse TRUNCATE.
CREATE OR REPLACE FUNCTION usersync.guard_audit_partitions()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    partition regclass;
begin
    for partition in
        select relid from pg_partition_tree(usersync.audit_log())
        where not exists (
            select from pg_trigger
            where tgrelid = relid and tgname = 'keep_all_audit_logs' and tgenabled in ('O', 'A') and tgtype = 34
                and tgfoid = 'usersync.keep_audit_logs()'::regprocedure and tgqual is null
        )
    loop
        execute format(
            'create or replace trigger keep_all_audit_logs before truncate on %s '
            'for each statement execute function usersync.keep_audit_logs()', partition);
    end loop;
end;
$function$


-- function usersync.handle_deleted_user()
owner postgres; usersync: runs when the auth server deletes users, and applies on_delete to their rows.
CREATE OR REPLACE FUNCTION usersync.handle_deleted_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
        if tg_relid <> '"auth"."users"'::regclass then
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
                where old_users."id" = any(without_row) and (true)
                    and (old_users."deleted_at" is null or 'anonymize' <> 'delete')
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
$function$


-- function usersync.handle_new_user()
owner postgres; usersync: runs when the auth server creates users, and gives each a row in the users table.
CREATE OR REPLACE FUNCTION usersync.handle_new_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
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
            is_simple := tg_relid = '"auth"."users"'::regclass and not usersync.has_pause('usersync.pause'::regclass)
                and usersync.stores_rows_unchanged('"public"."users"'::regclass, '"auth"."users"'::regclass);
            if is_simple and tg_name > any (usersync.row_triggers('"auth"."users"'::regclass, 4)) then
                is_simple := (select true from new_users offset 1 limit 1) is null;
            end if;
            if is_simple and usersync.has_default('"public"."users"'::regclass, array['email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at']) then
                is_simple := not exists (select from new_users as source where (source."email") is null and usersync.has_default('"public"."users"'::regclass, array['email']) or (source."phone") is null and usersync.has_default('"public"."users"'::regclass, array['phone']) or (coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}') is null and usersync.has_default('"public"."users"'::regclass, array['full_name']) or (coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}') is null and usersync.has_default('"public"."users"'::regclass, array['avatar_url']) or (source."is_anonymous") is null and usersync.has_default('"public"."users"'::regclass, array['is_anonymous']) or (source."email_confirmed_at") is null and usersync.has_default('"public"."users"'::regclass, array['email_confirmed_at']) or (source."phone_confirmed_at") is null and usersync.has_default('"public"."users"'::regclass, array['phone_confirmed_at']) or (source."banned_until") is null and usersync.has_default('"public"."users"'::regclass, array['banned_until']) or (source."created_at") is null and usersync.has_default('"public"."users"'::regclass, array['created_at']));
            end if;
            if usersync.has_user_events('usersync.user_event_requests'::regclass, false) then
                records_events := true;
                is_simple := is_simple
                    and not usersync.has_user_events('usersync.user_event_requests'::regclass, true)
                    and usersync.stores_events_at_once('"public"."audit_logs"'::regclass);
            end if;
            if is_simple then
                insert into "public"."users" ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
                select source."id", source."email", source."phone", coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', source."is_anonymous", source."email_confirmed_at", source."phone_confirmed_at", source."banned_until", source."created_at", source."deleted_at" from new_users as source where source."deleted_at" is null and (true);
                get diagnostics inserted = row_count;
                if not usersync.stores_rows_unchanged('"public"."users"'::regclass, '"auth"."users"'::regclass) then
                    raise exception 'the users table was altered meanwhile';
                end if;
                if usersync.has_rules('"public"."users"'::regclass) then
                    perform usersync.record_out_of_sync_users(array(select new_users."id" from new_users), false);
                end if;
                is_recorded := records_events and inserted = 1 and new."deleted_at" is null and (true);
                if is_recorded then
                    -- See record_user_events. If this fails, sync_users inserts the row again. The values are computed
                    -- outside of the INSERT: PL/pgSQL keeps such expressions ready until the transaction ends.
                    occurred_at := clock_timestamp();
                    id_prefix := overlay(lpad(to_hex(floor(extract(epoch from recording.occurred_at) * 1000)::bigint), 12, '0') || '-7' placing '-' from 9 for 0);
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
                    insert into "public"."audit_logs" ("id", "occurred_at", "recorded_at", "action", "outcome", "actor_id", "actor_type", "user_id", "entity_type", "entity_id", "changes", "metadata", "request_id", "ip", "user_agent", "source", "tenant_id", "on_behalf_of", "db_role", "traceparent", "severity", "seq")
                    select event.id, event.occurred_at, event.recorded_at, event.action, event.outcome, event.actor_id, event.actor_type, event.user_id, event.entity_type, event.entity_id, event.changes, event.metadata, event.request_id, event.ip, event.user_agent, event.source, event.tenant_id, event.on_behalf_of, event.db_role, event.traceparent, event.severity, nextval('usersync.audit_log_seq') from (
    select
        recording.event_id as id,
        recording.occurred_at as occurred_at,
        now() as recorded_at,
        'user.created' as action,
        'succeeded' as outcome,
        recording.actor_id as actor_id,
        recording.actor_type as actor_type,
        new."id" as user_id,
        'user' as entity_type,
        recording.entity_id as entity_id,
        null::jsonb as changes,
        recording.metadata as metadata,
        recording.request_id as request_id,
        recording.ip as ip,
        recording.user_agent as user_agent,
        'sync' as source,
        recording.tenant_id as tenant_id,
        recording.on_behalf_of as on_behalf_of,
        recording.db_role as db_role,
        recording.traceparent as traceparent,
        null::text as severity
) as event
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
                        select source."id" from new_users as source where source."deleted_at" is null and (true)
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
        if tg_relid <> '"auth"."users"'::regclass then
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
$function$


-- function usersync.handle_updated_user()
owner postgres; usersync: runs when the auth server changes a user, and copies changed values.
CREATE OR REPLACE FUNCTION usersync.handle_updated_user()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    ids uuid[];
    is_deletion boolean := false;
    emptied text[];
begin
    if tg_relid <> '"auth"."users"'::regclass then
        -- Another relation has this trigger. Its code must not run with the rights of this function's owner.
        raise warning 'usersync: % is not the table that usersync was installed for', tg_relid::regclass;
        return null;
    end if;
    -- The first UPDATE of a soft deletion. Later UPDATEs of the same user do not change the row.
    is_deletion := new."id" <> old."id" or new."deleted_at" is not null and old."deleted_at" is null;
    if row(new."id", new."email", new."phone", coalesce(new."raw_user_meta_data" -> 'full_name', new."raw_user_meta_data" -> 'name') #>> '{}', coalesce(new."raw_user_meta_data" -> 'avatar_url', new."raw_user_meta_data" -> 'picture') #>> '{}', new."is_anonymous", new."email_confirmed_at", new."phone_confirmed_at", new."banned_until", new."created_at", new."deleted_at") is distinct from row(old."id", old."email", old."phone", coalesce(old."raw_user_meta_data" -> 'full_name', old."raw_user_meta_data" -> 'name') #>> '{}', coalesce(old."raw_user_meta_data" -> 'avatar_url', old."raw_user_meta_data" -> 'picture') #>> '{}', old."is_anonymous", old."email_confirmed_at", old."phone_confirmed_at", old."banned_until", old."created_at", old."deleted_at") or ((true) and not (true)) or (false) then
        ids := case when new."id" = old."id" then array[new."id"] else array[new."id", old."id"] end;
        perform usersync.sync_users(ids, tg_op, false, is_deletion);
        emptied := array_remove(array[case when new."email" is null and old."email" is not null then 'email' end, case when new."phone" is null and old."phone" is not null then 'phone' end, case when coalesce(new."raw_user_meta_data" -> 'full_name', new."raw_user_meta_data" -> 'name') #>> '{}' is null and coalesce(old."raw_user_meta_data" -> 'full_name', old."raw_user_meta_data" -> 'name') #>> '{}' is not null then 'full_name' end, case when coalesce(new."raw_user_meta_data" -> 'avatar_url', new."raw_user_meta_data" -> 'picture') #>> '{}' is null and coalesce(old."raw_user_meta_data" -> 'avatar_url', old."raw_user_meta_data" -> 'picture') #>> '{}' is not null then 'avatar_url' end, case when new."is_anonymous" is null and old."is_anonymous" is not null then 'is_anonymous' end, case when new."email_confirmed_at" is null and old."email_confirmed_at" is not null then 'email_confirmed_at' end, case when new."phone_confirmed_at" is null and old."phone_confirmed_at" is not null then 'phone_confirmed_at' end, case when new."banned_until" is null and old."banned_until" is not null then 'banned_until' end, case when new."created_at" is null and old."created_at" is not null then 'created_at' end]::text[], null);
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
$function$


-- function usersync.has_default(regclass, text[])
owner postgres; usersync: whether one of these columns has a DEFAULT.
CREATE OR REPLACE FUNCTION usersync.has_default(relation regclass, column_names text[])
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (select columns_with_default::text[] && column_names from usersync.read_catalog(relation));
end;
$function$


-- function usersync.has_pause(regclass)
owner postgres; usersync: whether usersync is paused, as of when a statement is planned.
CREATE OR REPLACE FUNCTION usersync.has_pause(pause_table regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (select is_paused from usersync.read_catalog(pause_table));
end;
$function$


-- function usersync.has_rules(regclass)
owner postgres; usersync: whether the application has rules that rewrite writes to a table.
CREATE OR REPLACE FUNCTION usersync.has_rules(relation regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (select has_rules from usersync.read_catalog(relation));
end;
$function$


-- function usersync.has_user_events(regclass, boolean)
owner postgres; usersync: whether events of users are recorded, as of when a statement is planned.
CREATE OR REPLACE FUNCTION usersync.has_user_events(request_table regclass, with_values boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return request_table is not null and usersync.records_user_events(with_values);
end;
$function$


-- function usersync.insert_audit_events(jsonb, boolean)
owner postgres; usersync: inserts a batch of events with their users, or raises.
CREATE OR REPLACE FUNCTION usersync.insert_audit_events(events jsonb, is_own boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    stored bigint;
    -- Of events that name none, unless they were made in another session.
    tenant text := case when not is_own then usersync.tenant_of_session() end;
    role_name name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    -- Facts that the database knows. They replace what the event contains.
    facts jsonb := jsonb_strip_nulls(jsonb_build_object('db_set_role', nullif(role_name, session_user)));
    -- db_role is a column; events of earlier releases have it here.
    replaced_keys text[] := case when is_own then '{db_role}'::text[] else '{db_role,db_set_role}'::text[] end;
begin
    -- Always in the order of ids, so that two sessions that send the same events cannot deadlock.
    with sent as materialized (
        -- The user that an event is linked to: its user_id, otherwise its actor if that is a user. Written here because
        -- a function call for each event would take a seventh of the time. To search for characters that no id contains
        -- takes a fifth of the time of a regular expression for a whole id.
        select
            each_event.*,
            coalesce(
                user_id,
                case
                    when coalesce(actor_type, 'user') = 'user'
                        and actor_id like '________-____-____-____-____________'
                        and actor_id !~ '[^0-9a-fA-F-]'
                        and length(replace(actor_id, '-', '')) = 32
                    then actor_id::uuid
                end
            ) as wanted
        from jsonb_populate_recordset(null::usersync.audit_event, insert_audit_events.events) as each_event
        order by id
    ),
    given as materialized (
        select * from sent where occurred_at is not null or not usersync.is_recorded(id)
    ),
    resolved as materialized (
        select user_id, problem
        from usersync.resolve_users(array(select distinct wanted from given where wanted is not null))
    )
    insert into "public"."audit_logs" ("id", "occurred_at", "recorded_at", "action", "outcome", "actor_id", "actor_type", "user_id", "entity_type", "entity_id", "changes", "metadata", "request_id", "ip", "user_agent", "source", "tenant_id", "on_behalf_of", "db_role", "traceparent", "severity", "seq")
    select event.id, event.occurred_at, event.recorded_at, event.action, event.outcome, event.actor_id, event.actor_type, event.user_id, event.entity_type, event.entity_id, event.changes, event.metadata, event.request_id, event.ip, event.user_agent, event.source, event.tenant_id, event.on_behalf_of, event.db_role, event.traceparent, event.severity, nextval('usersync.audit_log_seq')
    from (
        select
            given.id,
            coalesce(given.occurred_at, usersync.time_of_id(given.id), now()) as occurred_at,
            now() as recorded_at,
            given.action,
            coalesce(given.outcome, 'succeeded') as outcome,
            given.actor_id,
            coalesce(given.actor_type, case when given.actor_id is null then 'system' else 'user' end) as actor_type,
            case when resolved.problem is null then given.wanted end as user_id,
            given.entity_type,
            given.entity_id,
            given.changes,
            case
                when resolved.problem is null then coalesce(given.metadata, '{}') - replaced_keys
                else coalesce(given.metadata, '{}') - replaced_keys
                    || jsonb_build_object('original_user_id', given.wanted, 'user_sync_error', resolved.problem)
            end || case
                -- A trigger's event that is stored later keeps the db_role of the session that changed the row.
                when insert_audit_events.is_own and coalesce(given.db_role, given.metadata ->> 'db_role') is not null then '{}'
                when not insert_audit_events.is_own and given.source in ('trigger', 'sync')
                then facts || jsonb_build_object('claimed_source', given.source)
                else facts
            end as metadata,
            given.request_id,
            given.ip,
            given.user_agent,
            case
                when not insert_audit_events.is_own and given.source in ('trigger', 'sync') then 'app'
                else coalesce(given.source, 'app')
            end as source,
            coalesce(given.tenant_id, tenant) as tenant_id,
            given.on_behalf_of,
            case
                when insert_audit_events.is_own then coalesce(given.db_role, given.metadata ->> 'db_role', session_user)
                else session_user
            end as db_role,
            given.traceparent,
            coalesce(given.severity, null) as severity
        from given
        left join resolved on resolved.user_id = given.wanted
    ) as event
    order by event.id
    on conflict ("id", "occurred_at") do nothing;
    get diagnostics stored = row_count;
    -- Fewer rows than events: the others are stored already, or a trigger of the application has skipped them.
    if stored < jsonb_array_length(events) then
        perform usersync.check_events_stored(events);
    end if;
    return stored;
end;
$function$


-- function usersync.is_paused()
owner postgres; usersync: whether usersync is paused.
CREATE OR REPLACE FUNCTION usersync.is_paused()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '10ms'
AS $function$
begin
    if not exists (select from usersync.pause) then
        return false;
    end if;
    lock table usersync.pause in row share mode;
    return exists (select from usersync.pause);
exception when others then
    return false;
end;
$function$


-- function usersync.is_recorded(uuid)
owner postgres; usersync: whether an event without a time is in the audit log.
CREATE OR REPLACE FUNCTION usersync.is_recorded(event_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    if event_id is null or usersync.time_of_id(event_id) is not null then
        return false;
    end if;
    -- One of 64 locks. A lock for each event would fill the lock table.
    perform pg_advisory_xact_lock(hashtext('usersync.is_recorded'), get_byte(uuid_send(event_id), 0) / 4);
    return exists (
        select from (select is_recorded.event_id as id) as given join "public"."audit_logs" as stored on stored."id" = given.id
    );
end;
$function$


-- function usersync.is_valid_input(text, text)
owner postgres; usersync: whether a text is valid input for a type.
CREATE OR REPLACE FUNCTION usersync.is_valid_input(value text, type_name text)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if value is null then
        return true;
    end if;
    if current_setting('server_version_num')::integer >= 160000 then
        -- With a bare parameter, the function would keep the type of the first call for the whole transaction.
        return pg_input_is_valid(value, type_name || '');
    end if;
    execute format('select %L::%s', value, type_name);
    return true;
exception when others or assert_failure then
    return false;
end;
$function$


-- function usersync.keep_audit_logs()
owner postgres; usersync: keeps the audit log append-only.
CREATE OR REPLACE FUNCTION usersync.keep_audit_logs()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    generated text[];
begin
    if current_setting('usersync.maintaining', true) = 'audit'
        and pg_has_role((select relowner from pg_class where oid = tg_relid), 'USAGE')
    then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'UPDATE' then
        if old.user_id is not null and new.user_id is null then
            new.user_id := old.user_id;
            -- Compares the binary images, because types such as json have no equality. Generated columns are not
            -- computed yet.
            generated := array(select attname::text from pg_attribute where attrelid = tg_relid and attgenerated <> '');
            if (
                    new operator(pg_catalog.*=) old
                    or (to_jsonb(new) - generated)::text = (to_jsonb(old) - generated)::text
                )
                and not exists (select from "public"."users" as target where target."id" = old.user_id)
            then
                new.user_id := null;
                return new;
            end if;
        end if;
    end if;
    raise exception 'the audit log is append-only: % is not allowed', tg_op
        using errcode = 'insufficient_privilege',
            hint = case tg_op
                -- TRUNCATE ... CASCADE of the users table also truncates every table that references it.
                when 'TRUNCATE' then 'TRUNCATE ... CASCADE of the users table reaches the audit log. Delete the users instead. '
                    'To empty the audit log of a test database: set usersync.maintaining = ''audit'''
                else 'For retention run: usersync audit prune'
            end;
end;
$function$


-- function usersync.keep_description()
owner postgres; 
CREATE OR REPLACE FUNCTION usersync.keep_description()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if exists (select from usersync.settings) then
        return null;
    end if;
    return new;
end;
$function$


-- function usersync.list_attempts(text, uuid, bigint, integer)
owner postgres; usersync: a page of the attempts of a subscription.
CREATE OR REPLACE FUNCTION usersync.list_attempts(subscription text, event_id uuid, before bigint, page_size integer)
 RETURNS SETOF usersync.delivery_attempts
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
    select * from usersync.delivery_attempts as made
    where made.subscription = list_attempts.subscription
        and (list_attempts.event_id is null or made.event_id = list_attempts.event_id)
        and (list_attempts.before is null or made.attempt_id < list_attempts.before)
    order by made.attempt_id desc
    limit list_attempts.page_size;
$function$


-- function usersync.list_failures(uuid, timestamp with time zone, uuid, integer)
owner postgres; usersync: a page of the failures table, the oldest failure first.
CREATE OR REPLACE FUNCTION usersync.list_failures(user_id uuid, after_time timestamp with time zone, after_id uuid, page_size integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(page) order by page.first_failed_at, page.user_id), '[]')
        from (
            select
                failure.user_id,
                failure.kind,
                failure.outcome,
                failure.sqlstate,
                failure.constraint_name as "constraint",
                failure.column_name as "column",
                failure.message,
                failure.raised_in,
                failure.attempts,
                failure.first_failed_at,
                failure.last_failed_at,
                failure.next_try_at
            from usersync.sync_failures as failure
            where (failure.kind = 'event' or failure.user_id <> all((select usersync.resolved_failures())::uuid[]))
                and (list_failures.user_id is null or failure.user_id = list_failures.user_id)
                and (
                    list_failures.after_time is null
                    or (failure.first_failed_at, failure.user_id) > (list_failures.after_time, list_failures.after_id)
                )
            order by failure.first_failed_at, failure.user_id
            -- A user may have several failures of one transaction. A page does not end between them.
            fetch first (coalesce(list_failures.page_size, 1000000000)) rows with ties
        ) as page
    );
end;
$function$


-- function usersync.lock_user_rows(uuid[])
owner postgres; usersync: locks the rows of these users against deletion.
CREATE OR REPLACE FUNCTION usersync.lock_user_rows(ids uuid[], OUT locked_ids uuid[], OUT problem text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET enable_seqscan TO 'off'
AS $function$
declare
    one uuid;
begin
    locked_ids := array(
        select target."id" from "public"."users" as target
        where target."id" = any(lock_user_rows.ids) for key share
    );
exception when others or assert_failure then
    problem := sqlstate || ' ' || sqlerrm;
    if sqlstate = '40001' then
        -- Above READ COMMITTED: the key of a row was changed after the snapshot. The other rows can be locked.
        locked_ids := '{}'::uuid[];
        foreach one in array ids loop
            begin
                locked_ids := locked_ids || array(
                    select target."id" from "public"."users" as target
                    where target."id" = one for key share skip locked
                );
            exception when others then
                continue;
            end;
        end loop;
        return;
    end if;
    begin
        lock table "public"."users" in row share mode nowait;
        locked_ids := array(
            select target."id" from "public"."users" as target
            where target."id" = any(lock_user_rows.ids) for key share skip locked
        );
    exception when others then
        locked_ids := null;
    end;
end;
$function$


-- function usersync.make_audit_partition(date, integer)
owner postgres; usersync: creates the audit log's partition for a month.
CREATE OR REPLACE FUNCTION usersync.make_audit_partition(month date, most integer DEFAULT 10000)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
    name text := 'audit_logs_' || to_char(month, 'YYYY_MM');
    first_moment timestamptz := month;
    end_moment timestamptz := month + interval '1 month';
    stored_columns text := (
        select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
        where attrelid = '"public"."audit_logs"'::regclass and attnum > 0 and not attisdropped and attgenerated = ''
    );
begin
    if to_regclass('usersync.' || name) is not null then
        return true;
    end if;
    if (
        select count(*) > most from (
            select from usersync.audit_logs_default as stored
            where stored.occurred_at >= first_moment and stored.occurred_at < end_moment limit most + 1
        ) as few
    ) then
        return false;
    end if;
    if most is null then
        lock table usersync.audit_logs_default in access exclusive mode;
    end if;
    -- CREATE TABLE and ATTACH PARTITION, because CREATE TABLE ... PARTITION OF would lock the audit log against writes.
    execute format(
        'create table usersync.%I (like %s including defaults including constraints including generated)',
        name, '"public"."audit_logs"');
    perform set_config('usersync.maintaining', 'audit', true);
    execute format(
        'with moved as (delete from usersync.audit_logs_default where occurred_at >= $1 and occurred_at < $2 returning *) '
        'insert into usersync.%1$I (%2$s) select %2$s from moved', name, stored_columns) using first_moment, end_moment;
    perform set_config('usersync.maintaining', '', true);
    execute format(
        'alter table %s attach partition usersync.%I for values from (%L) to (%L)',
        '"public"."audit_logs"', name, first_moment, end_moment);
    perform usersync.guard_audit_partitions();
    return true;
exception when others then
    if most is null then
        raise;
    end if;
    -- The default partition stores the rows, and the next call tries again.
    if sqlstate <> '55P03' then
        raise warning 'usersync: the audit log''s partition for % could not be created: % %', month, sqlstate, sqlerrm
            using hint = 'Its events are stored in the default partition. Run: usersync doctor';
    end if;
    return false;
end;
$function$


-- function usersync.make_audit_partitions(integer)
owner postgres; usersync: creates the audit log's partitions for the months ahead.
CREATE OR REPLACE FUNCTION usersync.make_audit_partitions(ahead integer DEFAULT 2)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
declare
    months date[] := array(
        select each_month
        from generate_series(date_trunc('month', now()), now() + make_interval(months => ahead), interval '1 month')
            as each_month
        where to_regclass('usersync.audit_logs_' || to_char(each_month, 'YYYY_MM')) is null
    );
    month date;
    made integer := 0;
begin
    if cardinality(months) = 0 or not exists (
        select from pg_inherits
        where inhrelid = to_regclass('usersync.audit_logs_default') and inhparent = usersync.audit_log()
    ) then
        return 0;
    end if;
    if pg_relation_size('usersync.audit_logs_default') > 16 * 1024 * 1024 then
        return 0;
    end if;
    lock table only "public"."audit_logs" in share update exclusive mode nowait;
    lock table usersync.audit_logs_default in access exclusive mode nowait;
    lock table "public"."users" in share row exclusive mode nowait;
    foreach month in array months loop
        made := made + usersync.make_audit_partition(month)::integer;
    end loop;
    return made;
exception
    when lock_not_available then
        return 0;
    when others then
        raise warning 'usersync: the audit log''s partitions for the months ahead could not be created: % %', sqlstate, sqlerrm
            using hint = 'Events are stored in the default partition. Run: usersync doctor';
        return 0;
end;
$function$


-- function usersync.make_constraints_immediate()
owner postgres; usersync: makes deferred constraints immediate, except those with a pending violation of the caller.
CREATE OR REPLACE FUNCTION usersync.make_constraints_immediate(OUT checked text, OUT deferred text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'on'
AS $function$
declare
    one text;
begin
    if not exists (select from pg_constraint where condeferrable) then
        checked := '';
        return;
    end if;
    deferred := (
        select string_agg(distinct format('%I.%I', nspname, conname), ', ')
        from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
        where condeferred
    );
    begin
        set constraints all immediate;
        checked := 'all';
        return;
    exception when others or assert_failure then
        checked := '';
    end;
    for one in
        select distinct format('%I.%I', nspname, conname)
        from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
        where condeferrable
    loop
        begin
            execute format('set constraints %s immediate', one);
            checked := concat_ws(', ', nullif(checked, ''), one);
        exception when others or assert_failure then
            null;  -- The caller has a pending violation.
        end;
    end loop;
end;
$function$


-- function usersync.may_be_secret(text)
owner postgres; usersync: whether the name of a column could be that of a secret.
CREATE OR REPLACE FUNCTION usersync.may_be_secret(column_name text)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    words text;
begin
    if getdatabaseencoding() = 'UTF8' then
        column_name := normalize(column_name, NFKC);
    end if;
    words := lower(array_to_string(array(
        select match[1] from regexp_matches(column_name, '[A-Z]+(?![a-z])|[A-Z]?[a-z]+', 'g') as match
    ), '_'));
    return '_' || words || '_' ~ '(accesskey|accesstoken|accountnumber|apikey|apitoken|authorization|authtoken|bearer|bottoken|brokerurl|cardno|cardnumber|connectionstring|cookie|credential|creditcard|csrftoken|cvc|cvv|databaseurl|dburl|encryptionkey|hmackey|idtoken|jwt|mnemonic|passcode|passphrase|passwd|password|privatekey|pwd|redisurl|refreshtoken|secret|secretkey|securitycode|servicekey|sessionkey|sessiontoken|signingkey|socialsecurity)|_(auth|ciphertext|csrf|dsn|iban|otp|pan|pass|pin|salt|sid|signature|ssn|token|totp|xsrf)_|_(credit|debit)_card_|_(access|activation|auth|authentication|backup|change|confirmation|device|factor|login|magic|mfa|onetime|otp|pairing|persist|recovery|reset|security|sms|totp|unlock|used|verification)_code_|_(access|activation|auth|authentication|backup|change|confirmation|device|factor|login|magic|mfa|onetime|otp|pairing|persist|recovery|reset|security|sms|totp|unlock|used|verification)_codes_|_(auth|oauth)_config_|_(auth|session|token)_data_|_(invitation|invite|key)_hash_|_(access|account|activation|admin|adyen|aes|algolia|amplitude|anthropic|api|auth|authentication|aws|azure|bitbucket|bot|braintree|brevo|cipher|claude|client|cloudflare|cohere|crypto|datadog|decryption|deepseek|deploy|digitalocean|discord|ecdsa|ed25519|elevenlabs|encrypted|encryption|fcm|firebase|gcp|gemini|github|gitlab|google|gpg|groq|hash|hashed|hmac|hubspot|huggingface|ingestion|intercom|jira|jwe|jwt|licence|license|mailchimp|mailgun|mapbox|maps|master|merchant|mfa|mistral|mixpanel|mollie|newrelic|oauth|openai|openrouter|otp|paypal|perplexity|pgp|pinecone|plaid|posthog|postmark|private|push|razorpay|recovery|replicate|resend|role|rsa|salesforce|sas|secret|segment|sendgrid|sentry|serper|server|service|session|shopify|signing|slack|ssh|ssl|stripe|supabase|tavily|telegram|tls|token|totp|twilio|unseal|user|vapid|vault|wallet|webhook|zendesk)_key_|_(access|api|auth|encrypted|encryption|private|recovery|secret|service|signing|ssh)_keys_|_(confirmation|login|magic|recovery|reset|unlock|verification)_link_|_(confirmation|login|magic|recovery|reset|unlock|verification)_links_|_(account|card|cc)_no_|_(account|card|cc|iban|security)_number_|_(key|private)_pem_|_(backup|recovery|secret|seed|wallet)_phrase_|_(gpg|key|pgp|rsa|ssh)_private_|_(master|otp|recovery|totp|wallet)_seed_|_(connection|session)_string_|_(access|api|auth|bearer|csrf|device|fcm|invite|oauth|push|recovery|refresh|reset|session)_tokens_|_(broker|database|db|redis)_url_|_(code|pkce)_verifier_|_(pass)_word_|^_encrypted_|_(webhook|hook)_url_';
end;
$function$


-- function usersync.note_events()
owner postgres; usersync: notes the new events of an audit log that is a table of the application.
CREATE OR REPLACE FUNCTION usersync.note_events()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '10ms'
AS $function$
begin
    if current_setting('usersync.misses_events', true) is distinct from 'yes' then
        begin
            insert into usersync.noted_events (event_id, stored_id, occurred_at)
            select stored."id", null::text, coalesce(stored."occurred_at", now())
            from inserted_events as stored where stored."id" is not null;
            return null;
        exception when others or assert_failure then
            perform set_config('usersync.misses_events', 'yes', true);
        end;
    end if;
    begin
        perform nextval('usersync.missed_statements_seq');
    exception when others or assert_failure then
        raise warning 'usersync: new events of % could not be noted: % %', tg_relid::regclass, sqlstate, sqlerrm
            using hint = 'They get their numbers after the next daily search. Run "usersync doctor".';
    end;
    return null;
end;
$function$


-- function usersync.number_events()
owner postgres; usersync: numbers the events that have become visible since the last call.
CREATE OR REPLACE FUNCTION usersync.number_events()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
 SET lock_timeout TO '10ms'
AS $function$
declare
    this text;
    state record;
    first_xid bigint;
    open_xids bigint[];
    numbered bigint;
begin
    -- "user" and "feed".
    if not pg_try_advisory_xact_lock(1970496882, 1717921124) then
        return null;
    end if;
    perform usersync.require_audit_log();
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'events can only be numbered in a transaction with the isolation level READ COMMITTED'
            using errcode = 'invalid_transaction_state';
    end if;
    if not true then
        return usersync.number_noted_events();
    end if;
    this := split_part(usersync.database_position(), ' ', 2);
    select * into state from usersync.feed;
    if not found then
        insert into usersync.feed (snapshot, cluster, first_snapshot, first_seq)
        values (pg_current_snapshot(), this, pg_current_snapshot(), nextval('usersync.audit_log_seq'));
        return 0;
    end if;

    if state.cluster <> this then
        -- Transaction ids of another cluster mean nothing here. The snapshot of the start and the ids in the log are
        -- from the same cluster, so they tell which of the restored events are older than the feed.
        with added as (
            insert into usersync.event_numbers (number, event_id, occurred_at)
            select
                state.last_number + row_number() over (order by stored.seq, stored.recorded_at, stored.id),
                stored.id,
                stored.occurred_at
            from "public"."audit_logs" as stored
            where (
                    stored.seq >= state.first_seq
                    or not pg_visible_in_snapshot(stored.xid::text::xid8, state.first_snapshot)
                )
                and not exists (
                    select from usersync.event_numbers as known
                    where known.event_id = stored.id and known.occurred_at = stored.occurred_at
                )
            returning number
        )
        update usersync.feed set
            snapshot = pg_current_snapshot(),
            cluster = this,
            last_number = greatest(state.last_number, (select max(number) from added))
        returning (select count(*) from added) into numbered;
        return numbered;
    end if;

    first_xid := pg_snapshot_xmax(state.snapshot)::text::bigint;
    open_xids := array(select xid::text::bigint from pg_snapshot_xip(state.snapshot) as xid);
    -- The index has no entries for new blocks until autovacuum has seen them, so each call would read all of them. A
    -- lock that somebody else holds is not worth waiting for: the next call tries again.
    if state.unsummarized > 10000 then
        begin
            perform brin_summarize_new_values(inhrelid) from pg_inherits where inhparent in (
                select indexrelid from pg_index join pg_class on pg_class.oid = indexrelid
                where indrelid = to_regclass('"public"."audit_logs"') and relam = (select oid from pg_am where amname = 'brin')
            );
            update usersync.feed set unsummarized = 0;
        exception when lock_not_available then
            null;
        end;
    end if;
    -- One statement, so the events and the snapshot that is stored are of the same moment.
    with added as (
        insert into usersync.event_numbers (number, event_id, occurred_at)
        select
            state.last_number + row_number() over (order by stored.seq, stored.recorded_at, stored.id),
            stored.id,
            stored.occurred_at
        from "public"."audit_logs" as stored
        where stored.xid >= first_xid or stored.xid = any(open_xids)
        on conflict (event_id, occurred_at) do nothing
        returning number
    )
    update usersync.feed set
        snapshot = pg_current_snapshot(),
        last_number = greatest(state.last_number, (select max(number) from added)),
        unsummarized = unsummarized + (select count(*) from added)
    -- Without new events nothing is written: the older snapshot finds the same events.
    where exists (select from added)
    returning (select count(*) from added) into numbered;
    return coalesce(numbered, 0);
end;
$function$


-- function usersync.number_missed_events(usersync.noted_log)
owner postgres; usersync: numbers events of the application's audit log that were not noted.
CREATE OR REPLACE FUNCTION usersync.number_missed_events(noting usersync.noted_log)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET jit TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_nestloop TO 'on'
AS $function$
declare
    templates constant jsonb := E'{"time": "stored.\\"occurred_at\\"", "tie": "coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\"", "select": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from \\"public\\".\\"audit_logs\\" as stored", "numbered": "select stored.\\"id\\"::text as id, (stored.\\"occurred_at\\" at time zone ''UTC'') as occurred_at, (stored.\\"recorded_at\\" at time zone ''UTC'') as recorded_at, stored.\\"action\\"::text as action, stored.\\"outcome\\"::text as outcome, stored.\\"actor_id\\"::text as actor_id, stored.\\"actor_type\\"::text as actor_type, stored.\\"user_id\\"::text as user_id, stored.\\"entity_type\\"::text as entity_type, stored.\\"entity_id\\"::text as entity_id, to_jsonb(stored.\\"changes\\") as changes, to_jsonb(stored.\\"metadata\\") as metadata, stored.\\"request_id\\"::text as request_id, host(stored.\\"ip\\") as ip, stored.\\"user_agent\\"::text as user_agent, stored.\\"source\\"::text as source, stored.\\"tenant_id\\"::text as tenant_id, stored.\\"on_behalf_of\\"::text as on_behalf_of, coalesce(stored.\\"db_role\\", stored.\\"metadata\\" ->> ''db_role'') as db_role, coalesce(stored.\\"traceparent\\", stored.\\"metadata\\" ->> ''traceparent'') as traceparent, stored.\\"severity\\"::text as severity, coalesce(stored.\\"id\\"::text, stored.ctid::text) collate \\"C\\" as tie from (select stored.ctid, stored.* from \\"public\\".\\"audit_logs\\" as stored where stored.id = numbered.event_id and stored.occurred_at = all (array[numbered.occurred_at]) and stored.occurred_at >= all (array[%1$L::timestamptz]) and stored.occurred_at <= all (array[%2$L::timestamptz]) offset 0) as stored", "filters": {"id": "stored.\\"id\\" = %L::uuid", "user_id": "stored.\\"user_id\\" = %L::uuid", "actor_id": "stored.\\"actor_id\\" = %L::text", "entity_type": "stored.\\"entity_type\\" = %L::text", "entity_id": "stored.\\"entity_id\\" = %L::text", "action": "stored.\\"action\\" = %L::text", "outcome": "stored.\\"outcome\\" = %L::text", "request_id": "stored.\\"request_id\\" = %L::text", "tenant_id": "stored.\\"tenant_id\\" = %L::text", "on_behalf_of": "stored.\\"on_behalf_of\\" = %L::text", "severity": "stored.\\"severity\\" = %L::text", "words": "exists (select from (select jsonb_build_array(to_jsonb(stored.\\"metadata\\"), to_jsonb(stored.\\"changes\\")) as document offset 0) as found where position(lower(%2$L) in lower(found.document::text)) > 0 and exists (select from jsonb_path_query(found.document, ''strict $.** ? (@.type() != \\"object\\" && @.type() != \\"array\\")'') as each (value) where position(lower(%1$L) in lower(each.value #>> ''{}'')) > 0))", "since": "stored.\\"occurred_at\\" >= %L::timestamptz", "until": "stored.\\"occurred_at\\" < %L::timestamptz"}, "prefix": "stored.\\"action\\" like %L", "shards": "(get_byte(sha256(convert_to(coalesce(stored.\\"entity_type\\"::text || ''/'' || stored.\\"entity_id\\"::text, numbered.event_id::text), ''UTF8'')), 0) & 15) = any (%L)"}'::jsonb;
    budget bigint := 256;
    this_part text := noting.part;
    first_block bigint := noting.block;
    end_block bigint;
    size bigint;
    ids uuid[];
    texts text[];
    times timestamptz[];
    last bigint;
    added bigint;
    numbered bigint := 0;
begin
    loop
        -- The log, or its partitions in the order of their names.
        select leaf.name into this_part
        from (
            select relid::regclass::text collate "C" from pg_partition_tree('"public"."audit_logs"') where isleaf
            union all
            select pg_class.oid::regclass::text collate "C" from pg_class
            where pg_class.oid = to_regclass('"public"."audit_logs"') and relkind = 'r' and not relispartition
        ) as leaf (name)
        where this_part is null or leaf.name > this_part or leaf.name = this_part and first_block >= 0
        order by leaf.name limit 1;
        exit when this_part is null or budget <= 0;
        if this_part is distinct from noting.part then
            first_block := 0;
        end if;
        size := pg_relation_size(this_part::regclass) / current_setting('block_size')::bigint;
        end_block := least(first_block + budget, size);
        if first_block < size then
            -- Each row is looked up in the index of the numbers, however many there are.
            execute 'select array_agg(found.event_id), array_agg(found.stored_id), array_agg(found.occurred_at) '
                'from (select ' || format(templates ->> 'noted_id') || ' as event_id, '
                || format(templates ->> 'noted_text') || ' as stored_id, '
                || format(templates ->> 'noted_time') || ' as occurred_at '
                'from only ' || this_part || ' as stored where ' || format(templates ->> 'has_id')
                || ' and stored.ctid >= $1 and stored.ctid < $2) as found '
                'where not exists (select from usersync.event_numbers as known where known.event_id = found.event_id)'
                into ids, texts, times
                using format('(%s,0)', first_block)::tid, format('(%s,0)', end_block)::tid;
            if ids is not null then
                perform set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'off', true);
                select feed.last_number into last from usersync.feed;
                execute 'with added as ('
                    'insert into usersync.event_numbers (number, event_id, stored_id, occurred_at) '
                    'select $1 + row_number() over (order by missed.occurred_at, missed.event_id), '
                    'missed.event_id, missed.stored_id, missed.occurred_at '
                    'from unnest($2, $3, $4) as missed (event_id, stored_id, occurred_at) '
                    'where not exists (select from usersync.noted_events as noted where noted.event_id = missed.event_id) '
                    'returning number'
                    ') update usersync.feed set last_number = greatest(last_number, (select max(number) from added)) '
                    'returning (select count(*) from added)'
                    into added using last, ids, texts, times;
                numbered := numbered + added;
                perform set_config('enable_hashjoin', 'off', true), set_config('enable_nestloop', 'on', true);
            end if;
        end if;
        budget := budget - (end_block - first_block) - 1;
        first_block := case when end_block < size then end_block else -1 end;
        noting.part := this_part;
    end loop;
    if this_part is not null then
        update usersync.noted_log set part = noting.part, block = first_block;
        return numbered;
    end if;
    update usersync.noted_log set is_complete = true, is_searched = false, search_after = null, part = null, block = 0;
    if not noting.is_complete then
        -- This snapshot is older than all transactions, because events noted meanwhile have no number yet. Existing
        -- subscriptions belonged to another log. They start after the events that this log already had.
        update usersync.feed set snapshot = '1:1:';
        update usersync.subscription_shards set
            position = (select feed.last_number from usersync.feed),
            fence = fence + 1, worker = null, leased_until = null, trying = null
        where position >= 0;
    end if;
    return numbered;
end;
$function$


-- function usersync.number_noted_events()
owner postgres; usersync: numbers the new events of an audit log that is a table of the application.
CREATE OR REPLACE FUNCTION usersync.number_noted_events()
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
    this text := split_part(usersync.database_position(), ' ', 2);
    state usersync.feed;
    noting usersync.noted_log;
    first_xid xid8;
    open_xids xid8[];
    misses bigint;
    numbered bigint := 0;
    added bigint;
begin
    select * into noting from usersync.noted_log as noted where noted.log = '"public"."audit_logs"';
    if not found then
        raise exception 'the audit log % is the application''s own table, and has no feed yet', '"public"."audit_logs"'
            using errcode = 'US101',
                hint = 'Add a subscription, or set [audit] feed = true in usersync.toml and run: usersync apply';
    end if;
    select * into state from usersync.feed;
    if not found then
        -- A snapshot before all transactions: the trigger may have noted events already.
        insert into usersync.feed (snapshot, cluster, first_snapshot, first_seq)
        values ('1:1:', this, pg_current_snapshot(), nextval('usersync.audit_log_seq'))
        returning * into state;
    end if;
    if not noting.is_complete then
        -- For a second at most: the caller has the lock for numbering.
        while not noting.is_complete and clock_timestamp() < statement_timestamp() + interval '1 second' loop
            numbered := numbered + usersync.number_missed_events(noting);
            select * into noting from usersync.noted_log;
        end loop;
        if not noting.is_complete then
            return numbered;
        end if;
        select * into state from usersync.feed;
    end if;

    if state.cluster <> this then
        -- Transaction ids of another cluster mean nothing here.
        state.snapshot := '1:1:';
        update usersync.feed set snapshot = '1:1:', cluster = this;
        update usersync.noted_log set is_searched = true, search_after = null, part = null, block = 0
        returning * into noting;
    end if;
    first_xid := pg_snapshot_xmax(state.snapshot);
    open_xids := array(select pg_snapshot_xip(state.snapshot));
    -- One statement, so the events and the snapshot that is stored are of the same moment.
    with taken as (
        delete from usersync.noted_events as noted
        where noted.xid >= first_xid or noted.xid = any(open_xids)
        returning noted.*
    ),
    new_ones as (
        -- An id that was deleted and inserted again was noted twice.
        select distinct on (taken.event_id) taken.*
        from taken
        where not exists (select from usersync.event_numbers as known where known.event_id = taken.event_id)
        order by taken.event_id, taken.seq
    ),
    added as (
        insert into usersync.event_numbers (number, event_id, occurred_at, stored_id)
        select
            state.last_number + row_number() over (order by new_ones.seq),
            new_ones.event_id,
            new_ones.occurred_at,
            new_ones.stored_id
        from new_ones
        returning number
    )
    update usersync.feed set
        snapshot = pg_current_snapshot(),
        last_number = greatest(state.last_number, (select max(number) from added))
    -- Without new events nothing is written: the older snapshot finds the same events.
    where exists (select from taken)
    returning (select count(*) from added) into added;
    numbered := numbered + coalesce(added, 0);

    select case when is_called then last_value else 0 end into misses from usersync.missed_statements_seq;
    if not exists (
        select from pg_trigger
        where tgrelid = to_regclass('"public"."audit_logs"') and tgname = 'note_events' and tgenabled in ('O', 'A')
            and tgfoid = 'usersync.note_events()'::regprocedure
    ) then
        -- The search begins after the trigger is enabled again.
        if not noting.is_searched or noting.search_after is not null then
            update usersync.noted_log set is_searched = true, search_after = null, part = null, block = 0;
        end if;
    elsif noting.is_searched and noting.search_after is null or not noting.is_searched and misses <> noting.missed then
        -- The transactions whose events were missed may be open.
        update usersync.noted_log set
            is_searched = true,
            search_after = pg_snapshot_xmax(pg_current_snapshot()),
            missed = misses,
            part = null,
            block = 0;
    elsif noting.is_searched and pg_snapshot_xmin(pg_current_snapshot()) >= noting.search_after then
        numbered := numbered + usersync.number_missed_events(noting);
    end if;
    return numbered;
end;
$function$


-- function usersync.owns_transaction()
owner postgres; usersync: whether the transaction is usersync's own.
CREATE OR REPLACE FUNCTION usersync.owns_transaction()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select coalesce(current_setting('usersync.transaction', true) = 'own', false)
        or coalesce(current_setting('request.path', true) ~ '^/rpc/', false)
            and substr(current_setting('request.path', true), 6) in ('ensure_user_exists', 'record_audit_events', 'sync_existing_auth_users', 'user_sync_status', 'usersync');
$function$


-- function usersync.pause_triggers(text)
owner postgres; usersync: makes the triggers record changed users instead of syncing them.
CREATE OR REPLACE FUNCTION usersync.pause_triggers(paused_by text, OUT paused_at timestamp with time zone, OUT by text, OUT is_new boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    insert into usersync.pause (paused_by)
    values (coalesce(pause_triggers.paused_by, session_user)) on conflict (only_row) do nothing;
    pause_triggers.is_new := found;
    -- Changes nothing, but makes PostgreSQL plan the calls of has_pause again.
    alter table usersync.pause set (fillfactor = 100);
    select pause.paused_at, pause.paused_by into strict pause_triggers.paused_at, pause_triggers."by"
    from usersync.pause;
    if pause_triggers.is_new then
        perform usersync.record_admin_action('usersync.paused', jsonb_build_object('by', pause_triggers."by"));
    end if;
end;
$function$


-- function usersync.placeholder(text, uuid)
owner postgres; usersync: the value of an emptied personal column: null, or a placeholder if the column is NOT NULL.
CREATE OR REPLACE FUNCTION usersync.placeholder(column_name text, user_id uuid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return (
        select case
            when typname = 'uuid' then placeholder.user_id::text
            when typcategory = 'S' and atttypmod > 4
                then left('deleted-' || placeholder.user_id || '@users.invalid', atttypmod - 4)
            when typcategory = 'S' then 'deleted-' || placeholder.user_id || '@users.invalid'
            when typcategory = 'E' then (
                select enumlabel::text from pg_enum where enumtypid = atttypid order by enumsortorder limit 1
            )
            else case typcategory
                when 'B' then 'false'
                when 'N' then '0'
                when 'D' then 'epoch'
                else '{}'
            end
        end
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = '"public"."users"'::regclass
            and attname = placeholder.column_name
            and (attnotnull or typnotnull)
    );
end;
$function$


-- function usersync.prune_attempts(interval, integer)
owner postgres; usersync: deletes old attempts of subscriptions.
CREATE OR REPLACE FUNCTION usersync.prune_attempts(age interval, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    name text;
    oldest_kept bigint;
    deleted bigint;
    total bigint := 0;
begin
    loop
        -- The next name of a subscription, read from the index.
        select made.subscription into name from usersync.delivery_attempts as made
        where name is null or made.subscription > name order by made.subscription limit 1;
        exit when not found;
        select made.attempt_id into oldest_kept from usersync.delivery_attempts as made
        where made.subscription = name order by made.attempt_id desc offset prune_attempts.most limit 1;
        delete from usersync.delivery_attempts as made
        where made.subscription = name
            and (made.attempt_id <= oldest_kept or made.attempted_at < clock_timestamp() - prune_attempts.age)
            and not exists (
                select from usersync.parked_events as parked
                where parked.subscription = made.subscription and parked.number = made.number
            )
            or made.subscription = name and not exists (
                select from usersync.subscriptions as known where known.name = made.subscription
            );
        get diagnostics deleted = row_count;
        total := total + deleted;
    end loop;
    -- Existing users whose events are done.
    delete from usersync.backfill_events as listed
    where listed.number <= (
            select min(shard.position) from usersync.subscription_shards as shard
            where shard.subscription = listed.subscription
        )
        and not exists (
            select from usersync.parked_events as parked
            where parked.subscription = listed.subscription and parked.number = listed.number
        );
    return total;
end;
$function$


-- function usersync.read_backfill(text, bigint, integer[], integer)
owner postgres; usersync: a page of the events of existing users for a subscription.
CREATE OR REPLACE FUNCTION usersync.read_backfill(subscription text, after bigint, shards integer[], page_size integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '5s'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    state usersync.backfills;
    upto bigint;
    ids uuid[];
begin
    select * into state from usersync.backfills as backfill where backfill.subscription = read_backfill.subscription;
    if not state.is_complete and after >= state.last_number then
        -- Only one worker lists users. The others return, and read again later.
        select * into state from usersync.backfills as backfill
        where backfill.subscription = read_backfill.subscription for update skip locked;
        if not found then
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        -- A sign-up that began before the subscription was created records no event, and may not be visible yet.
        if state.ready_xid is null then
            update usersync.backfills as backfill set ready_xid = pg_snapshot_xmax(pg_current_snapshot())
            where backfill.subscription = read_backfill.subscription;
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        if pg_snapshot_xmin(pg_current_snapshot()) < state.ready_xid then
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        if not state.is_complete and after >= state.last_number then
            ids := array(
                select source."id" from "auth"."users" as source
                where state.listed_until is null or source."id" > state.listed_until
                order by source."id" limit 1000
            );
            with listed as (
                insert into usersync.backfill_events (subscription, number, user_id)
                select state.subscription, state.last_number + row_number() over (order by found.id), found.id
                from unnest(ids) as found (id)
                where not exists (
                        -- The feed has the event of this user.
                        select from "public"."audit_logs" as stored
                        where stored.entity_type = 'user' and stored.entity_id = found.id::text
                            and stored.action = 'user.created'
                            and not pg_visible_in_snapshot(stored.xid::text::xid8, state.feed_snapshot)
                    )
                    and not exists (
                        select from usersync.sync_failures as failure
                        where failure.user_id = found.id and failure.kind = 'event'
                            and failure.event ->> 'action' = 'user.created'
                    )
                returning number
            )
            update usersync.backfills as backfill set
                listed_until = coalesce(ids[cardinality(ids)], state.listed_until),
                last_number = greatest(state.last_number, (select max(number) from listed)),
                is_complete = cardinality(ids) < 1000
            where backfill.subscription = read_backfill.subscription
            returning * into state;
        end if;
    end if;
    upto := least(after + page_size, state.last_number);
    return (
        select jsonb_build_object(
            'events', coalesce(jsonb_agg(event order by position), '[]'),
            'position', case
                when state.is_complete and upto >= state.last_number then state.starts_after
                else greatest(upto, after)
            end,
            'more', not state.is_complete or upto < state.last_number
        )
        from jsonb_array_elements(usersync.backfill_events(subscription, after, upto))
            with ordinality as page (event, position)
        where usersync.shard_of('user', event ->> 'entity_id', null) = any(shards)
    );
end;
$function$


-- function usersync.read_catalog(regclass)
owner postgres; usersync: the catalog's current data about a table, and whether usersync is paused.
CREATE OR REPLACE FUNCTION usersync.read_catalog(relation regclass, OUT columns_with_default name[], OUT computes_defaults boolean, OUT has_rules boolean, OUT is_paused boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
    columns_with_default := array(
        select attname from pg_attribute where attrelid = relation and atthasdef and not attisdropped
    );
    -- A DEFAULT that calls a function of the application. Functions of PostgreSQL and of extensions in C do not count.
    computes_defaults := exists (
        select from pg_attrdef
        join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
        join pg_proc on refclassid = 'pg_proc'::regclass and refobjid = pg_proc.oid
        join pg_language on pg_language.oid = prolang
        where adrelid = relation and lanname not in ('internal', 'c')
    );
    has_rules := exists (select from pg_rewrite where ev_class = relation and ev_type <> '1');
    is_paused := exists (select from usersync.pause);
end;
$function$


-- function usersync.read_columns(regclass, text[])
owner postgres; usersync: the columns of a table with their types, as text.
CREATE OR REPLACE FUNCTION usersync.read_columns(relation regclass, names text[])
 RETURNS text
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
declare
    columns text;
    last_number integer;
begin
    select string_agg(concat_ws(' ', quote_ident(attname), (select typnamespace::regnamespace::text || '.' || quote_ident(typname) from pg_type where pg_type.oid = atttypid), (select quote_ident(collname) from pg_collation where pg_collation.oid = attcollation)), ', ' order by attnum)
        filter (where not attisdropped and (names is null or attname = any(names))), max(attnum)
    into columns, last_number
    from pg_attribute where attrelid = relation and attnum > 0;
    -- This function reads the newest catalog, whatever the snapshot. It returns null for a column that does not exist.
    return case when has_column_privilege(relation, (last_number + 1)::smallint, 'select') is null then columns end;
end;
$function$


-- function usersync.read_events(bigint, jsonb, integer)
owner postgres; usersync: a page of the numbered events that match all filters.
CREATE OR REPLACE FUNCTION usersync.read_events(after bigint, wanted jsonb, page_size integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return usersync.feed_page(after, wanted, page_size)::jsonb;
end;
$function$


-- function usersync.receive_users(jsonb, timestamp with time zone)
owner postgres; usersync: writes users from the admin API into the copy of the auth server's table.
CREATE OR REPLACE FUNCTION usersync.receive_users(users jsonb, seen_at timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    written bigint;
begin
    if '"auth"."users"'::regclass is distinct from to_regclass('usersync.auth_users') then
        raise exception 'users from the admin API cannot be stored: source_table is %, which is no copy', '"auth"."users"'::regclass
            using errcode = 'US101', hint = 'If the auth server has its own database, set source_table = '
                '"usersync.auth_users" and run: usersync apply';
    end if;
    update usersync.auth_users as stored set seen_at = receive_users.seen_at
    where stored.id in (select (told.one ->> 'id')::uuid from jsonb_array_elements(users) as told (one))
        and stored.seen_at < receive_users.seen_at;
    insert into usersync.auth_users as stored (
        id, aud, role, email, email_confirmed_at, invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
        created_at, updated_at, phone, phone_confirmed_at, confirmed_at, banned_until, deleted_at, is_anonymous, seen_at
    )
    select distinct on (told.id)
        told.id, nullif(told.aud, ''), nullif(told.role, ''), nullif(told.email, ''), told.email_confirmed_at,
        told.invited_at, told.last_sign_in_at, told.app_metadata, told.user_metadata, told.created_at,
        told.updated_at, nullif(told.phone, ''), told.phone_confirmed_at, told.confirmed_at, told.banned_until,
        told.deleted_at, coalesce(told.is_anonymous, false), receive_users.seen_at
    from jsonb_to_recordset(users) as told (
        id uuid, aud text, role text, email text, email_confirmed_at timestamptz, invited_at timestamptz,
        last_sign_in_at timestamptz, app_metadata jsonb, user_metadata jsonb, created_at timestamptz,
        updated_at timestamptz, phone text, phone_confirmed_at timestamptz, confirmed_at timestamptz,
        banned_until timestamptz, deleted_at timestamptz, is_anonymous boolean
    )
    order by told.id, told.updated_at desc nulls last
    on conflict (id) do update set
        aud = excluded.aud,
        role = excluded.role,
        email = excluded.email,
        email_confirmed_at = excluded.email_confirmed_at,
        invited_at = excluded.invited_at,
        last_sign_in_at = excluded.last_sign_in_at,
        raw_app_meta_data = excluded.raw_app_meta_data,
        raw_user_meta_data = excluded.raw_user_meta_data,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at,
        phone = excluded.phone,
        phone_confirmed_at = excluded.phone_confirmed_at,
        confirmed_at = excluded.confirmed_at,
        banned_until = excluded.banned_until,
        deleted_at = excluded.deleted_at,
        is_anonymous = excluded.is_anonymous
    where (stored.updated_at is null or excluded.updated_at >= stored.updated_at)
        and to_jsonb(stored) - 'seen_at' is distinct from to_jsonb(excluded) - 'seen_at';
    get diagnostics written = row_count;
    return written;
end;
$function$


-- function usersync.reconcile_page(uuid, uuid, integer, boolean)
owner postgres; usersync: compares one page of both tables, and writes the rows that are missing or stale.
CREATE OR REPLACE FUNCTION usersync.reconcile_page(first_id uuid, last_id uuid, page_size integer, dry_run boolean, OUT next_id uuid, OUT examined bigint, OUT auth_users bigint, OUT users bigint, OUT missing bigint, OUT stale bigint, OUT orphaned bigint, OUT skipped bigint, OUT deleted_upstream bigint, OUT degraded bigint, OUT failed bigint, OUT oldest_missing timestamp with time zone, OUT differences jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    page_end uuid;
    is_empty boolean;
    failed_ids uuid[];
    differing_ids uuid[];
    stale_ids uuid[];
begin
    page_end := least(
        (
            select source."id" from "auth"."users" as source
            where source."id" >= reconcile_page.first_id
            order by source."id" offset reconcile_page.page_size - 1 limit 1
        ),
        (
            select target."id" from "public"."users" as target
            where target."id" >= reconcile_page.first_id and (true)
            order by target."id" offset reconcile_page.page_size - 1 limit 1
        ),
        reconcile_page.last_id
    );
    if page_end < reconcile_page.last_id then
        reconcile_page.next_id := least(
            (
                select source."id" from "auth"."users" as source
                where source."id" > page_end order by source."id" limit 1
            ),
            (
                select target."id" from "public"."users" as target
                where target."id" > page_end and (true) order by target."id" limit 1
            )
        );
        if reconcile_page.next_id > reconcile_page.last_id then
            reconcile_page.next_id := null;
        end if;
    end if;
    -- The failures table may contain users who are in neither table. Their page is the one before their id.
    failed_ids := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
            and failure.user_id is distinct from reconcile_page.next_id and failure.kind <> 'event'
    );

    is_empty := not reconcile_page.dry_run and true and not exists (
        select from "public"."users" as target
        where target."id" >= reconcile_page.first_id and target."id" <= page_end and (true)
    );
    if is_empty then
        -- No user of the page has a row, as in a first run. There is nothing to compare, and the ids come from the
        -- index alone.
        differing_ids := array(
            select source."id" from "auth"."users" as source
            where source."id" between reconcile_page.first_id and page_end
        );
        reconcile_page.examined := cardinality(differing_ids);
        reconcile_page.stale := 0;
        reconcile_page.orphaned := 0;
        reconcile_page.skipped := 0;
        reconcile_page.deleted_upstream := 0;
    else
        select
            count(*),
            count(*) filter (where compared.is_live),
            count(*) filter (where compared.has_row),
            count(*) filter (where compared.class = 'missing'),
            count(*) filter (where compared.class = 'stale'),
            count(*) filter (where compared.class = 'orphaned'),
            count(*) filter (where compared.class = 'skipped'),
            count(*) filter (where compared.class = 'deleted_upstream'),
            min(compared.created_at) filter (where compared.class = 'missing'),
            array_agg(compared.user_id) filter (where compared.class in ('missing', 'stale')),
            array_agg(compared.user_id) filter (where compared.class = 'stale'),
            jsonb_agg(
                jsonb_build_object('user_id', compared.user_id, 'class', compared.class, 'columns', compared.columns)
                order by compared.user_id
            ) filter (where compared.columns is not null)
        into
            reconcile_page.examined,
            reconcile_page.auth_users,
            reconcile_page.users,
            reconcile_page.missing,
            reconcile_page.stale,
            reconcile_page.orphaned,
            reconcile_page.skipped,
            reconcile_page.deleted_upstream,
            reconcile_page.oldest_missing,
            differing_ids,
            stale_ids,
            reconcile_page.differences
        from (
            select
                classified.*,
                case
                    when not reconcile_page.dry_run or classified.class is null or classified.class = 'skipped' then null
                    when classified.class = 'stale' then classified.differing
                    else '{}'
                end as columns
            from (
                select
                    coalesce(source."id", target."id") as user_id,
                    source."id" is not null and source."deleted_at" is null as is_live,
                    target."id" is not null as has_row,
                    source."created_at" as created_at,
                    array_remove(array[case when target."email" is distinct from coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end) then 'email' end, case when target."phone" is distinct from coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end) then 'phone' end, case when target."full_name" is distinct from coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end) then 'full_name' end, case when target."avatar_url" is distinct from coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end) then 'avatar_url' end, case when target."is_anonymous" is distinct from coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end) then 'is_anonymous' end, case when target."email_confirmed_at" is distinct from coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end) then 'email_confirmed_at' end, case when target."phone_confirmed_at" is distinct from coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end) then 'phone_confirmed_at' end, case when target."banned_until" is distinct from coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end) then 'banned_until' end, case when target."created_at" is distinct from coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end) then 'created_at' end, case when target."deleted_at" is distinct from source."deleted_at" then 'deleted_at' end]::text[], null) as differing,
                    case
                        when source."id" is null then case when (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true then 'orphaned' end
                        when source."deleted_at" is not null then case
                            when target."id" is not null and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true then 'deleted_upstream'
                        end
                        when target."id" is null then case when true then 'missing' else 'skipped' end
                        when row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end), source."deleted_at") then 'stale'
                    end as class
                from (
                    select source.* from "auth"."users" as source
                    where source."id" between reconcile_page.first_id and page_end
                ) as source
                full join (
                    select target.* from "public"."users" as target
                    where target."id" >= reconcile_page.first_id and target."id" <= page_end and (true)
                ) as target on target."id" = source."id"
            ) as classified
            offset 0
        ) as compared;
    end if;

    if not reconcile_page.dry_run then
        if cardinality(failed_ids) > 0 then
            -- A trigger of the application that has changed a row would change it again. Such users are left out until
            -- the trigger or the values in either table change. Users whose next attempt is not due are left out too.
            differing_ids := array(
                select unnest(differing_ids)
                union
                select unnest(failed_ids)
                except
                select out_of_sync.user_id
                from usersync.find_out_of_sync_users(array(
                    select failure.user_id from usersync.sync_failures as failure
                    where failure.user_id = any(failed_ids) and failure.kind <> 'event' and failure.sqlstate = 'US001'
                ), false) as out_of_sync
                join usersync.sync_failures as failure using (user_id, sqlstate, message)
                where out_of_sync.sqlstate = 'US001'
                except
                select failure.user_id from usersync.sync_failures as failure
                where failure.user_id = any(failed_ids) and failure.kind <> 'event' and failure.next_try_at > now()
            );
        end if;
        perform usersync.sync_on_request(differing_ids, 'PAGE');
        perform usersync.record_kept_events(array(
            select distinct failure.user_id from usersync.sync_failures as failure
            where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
                and failure.user_id is distinct from reconcile_page.next_id and failure.kind = 'event'
                and coalesce(failure.next_try_at <= now(), true)
        ));
        -- PostgreSQL itself may store another value than it was given, for example a text cut to its column's length.
        perform usersync.record_out_of_sync_users(array(
            select unnest(stale_ids)
            except
            select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(stale_ids) and failure.kind <> 'event'
        ), false);
    end if;

    if is_empty then
        -- Users who have a row now or whose row was refused. The other users were deleted.
        reconcile_page.missing := (
            select count(*) from "public"."users" as target
            where target."id" >= reconcile_page.first_id and target."id" <= page_end and (true)
        ) + (
            select count(*) from usersync.sync_failures as failure
            where failure.user_id = any(differing_ids) and failure.kind = 'row' and failure.outcome = 'failed'
        );
    end if;
    select
        count(*) filter (where failure.outcome = 'degraded'),
        count(*) filter (where failure.outcome = 'failed')
    into reconcile_page.degraded, reconcile_page.failed
    from usersync.sync_failures as failure
    where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
        and failure.user_id is distinct from reconcile_page.next_id
        and failure.kind = 'row';
end;
$function$


-- function usersync.record_admin_action(text, jsonb)
owner postgres; usersync: records in the audit log an action of usersync that was requested.
CREATE OR REPLACE FUNCTION usersync.record_admin_action(action text, details jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    role_name text := coalesce(
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role', session_user);
    count_stored bigint;
begin
    if usersync.audit_log() is null then
        return false;
    end if;
    select stored into count_stored from usersync.record_own_events(jsonb_build_array(jsonb_build_object(
        'action', record_admin_action.action,
        'actor_type', 'system',
        'actor_id', coalesce(record_admin_action.details ->> 'by', role_name),
        'entity_type', 'table',
        'entity_id', case
            -- Of one table: that of track and untrack.
            when details ->> 'table' is not null then details ->> 'table'
            when action in ('usersync.log_pruned', 'usersync.rejects_retried', 'usersync.hold_added', 'usersync.hold_removed')
                then usersync.audit_log()::text
            else to_regclass('"public"."users"')::text
        end,
        'metadata', record_admin_action.details - 'by' || jsonb_build_object(
            'application_name', current_setting('application_name')),
        'db_role', role_name,
        'source', 'sync'
    )));
    return count_stored > 0;
exception when others or assert_failure then
    raise warning 'usersync: % was not recorded in the audit log: % %', record_admin_action.action, sqlstate, sqlerrm;
    return false;
end;
$function$


-- function usersync.record_created_users(uuid[], jsonb, text)
owner postgres; usersync: records the event user.created for these users.
CREATE OR REPLACE FUNCTION usersync.record_created_users(ids uuid[], more jsonb, fired_by text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
#variable_conflict use_column
declare
    with_values boolean := usersync.records_user_events(true);
    installed_at timestamptz;
    details jsonb[];
begin
    if fired_by is distinct from 'INSERT' then
        installed_at := (select min(applied_at) from usersync.schema_version);
    end if;
    if installed_at is not null or with_values or more is not null then
        details := array(
            select jsonb_build_object('metadata', coalesce(more, '{}') || case
                when (select source."created_at" < installed_at from "auth"."users" as source where source."id" = created.id)
                then jsonb '{"backfill": true}'
                else '{}'
            end) || case when with_values then coalesce((
                select jsonb_build_object('changes', jsonb_object_agg(
                    entry.key, jsonb_build_array(null, case
                        when entry.key = any(array[]::text[]) then '"[redacted]"' else entry.value
                    end)
                ))
                from "public"."users" as target
                cross join lateral jsonb_each((select to_jsonb(mapped) from (select target."email" as "email", target."phone" as "phone", target."full_name" as "full_name", target."avatar_url" as "avatar_url", target."is_anonymous" as "is_anonymous", target."email_confirmed_at" as "email_confirmed_at", target."phone_confirmed_at" as "phone_confirmed_at", target."banned_until" as "banned_until", target."created_at" as "created_at", target."deleted_at" as "deleted_at") as mapped)) as entry
                where target."id" = created.id and entry.value <> 'null'
            ), '{}') else '{}' end
            from unnest(ids) with ordinality as created (id, position)
            order by created.position
        );
    end if;
    perform usersync.record_user_events('user.created', ids, details, true, fired_by);
end;
$function$


-- function usersync.record_failures(uuid[], text, text, text, text, text)
owner postgres; usersync: records in the failures table why these users could not be synced.
CREATE OR REPLACE FUNCTION usersync.record_failures(ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, raised_in text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    present uuid[] := '{}'::uuid[];
    -- The auth server's transaction has waited for a lock and given up. It does not wait again for each user.
    gives_up boolean := current_setting('usersync.gives_up', true) = 'yes'
        and current_setting('usersync.has_waited', true) = 'yes';
begin
    if gives_up then
        -- The users of an INSERT have no rows yet. Users who are changed or deleted usually have one.
        present := case when current_setting('usersync.fired_by', true) <> 'INSERT' then ids else present end;
    else
        begin
            present := array(
                select target."id"
                from "public"."users" as target
                where target."id" = any(record_failures.ids) and (true) and (
                    select true from "auth"."users" as source
                    where source."id" = target."id" and source."deleted_at" is null
                )
            );
        exception when others then
            null;  -- No table, no rows.
        end;
    end if;
    insert into usersync.sync_failures as failure
        (user_id, kind, outcome, sqlstate, constraint_name, column_name, message, raised_in)
    select
        id,
        case when usersync.auth_user_exists(id) then 'row' else 'removal' end,
        case when id = any(present) then 'degraded' else 'failed' end,
        reason,
        -- A trigger can raise with any constraint name, for example an e-mail address.
        usersync.redact_message(reason, failed_constraint),
        usersync.redact_message(reason, failed_column),
        usersync.redact_message(reason, error_message),
        record_failures.raised_in
    from unnest(ids) as id
    on conflict (user_id) where kind <> 'event' do update set
        kind = excluded.kind,
        outcome = excluded.outcome,
        sqlstate = excluded.sqlstate,
        constraint_name = excluded.constraint_name,
        column_name = excluded.column_name,
        message = excluded.message,
        raised_in = excluded.raised_in,
        attempts = failure.attempts + 1,
        last_failed_at = now(),
        next_try_at = case
            when failure.attempts >= 5 then now() + interval '1 minute' * least(2 ^ least(failure.attempts - 5, 11), 1440)
        end;
end;
$function$


-- function usersync.record_kept_events(uuid[])
owner postgres; usersync: stores the events of these users that the failures table keeps.
CREATE OR REPLACE FUNCTION usersync.record_kept_events(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    half integer := cardinality(ids) / 2;
    kept bigint[];
    events jsonb;
    linked uuid[];
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
begin
    if coalesce(cardinality(ids), 0) = 0 then
        return;
    end if;
    for attempt in 1..2 loop
        begin
            select array_agg(failure.failure_id), jsonb_agg(failure.event order by failure.failure_id) into kept, events
            from (
                select failure.failure_id, failure.event from usersync.sync_failures as failure
                where failure.kind = 'event' and failure.user_id = any(ids) for update skip locked
            ) as failure;
            if kept is null then
                return;
            end if;
            -- In the second attempt no event is linked: the log may reference another table than the users table.
            linked := case when attempt = 1
                then (select locking.locked_ids from usersync.lock_user_rows(ids) as locking)
            end;
            insert into "public"."audit_logs" ("id", "occurred_at", "recorded_at", "action", "outcome", "actor_id", "actor_type", "user_id", "entity_type", "entity_id", "changes", "metadata", "request_id", "ip", "user_agent", "source", "tenant_id", "on_behalf_of", "db_role", "traceparent", "severity", "seq")
            select event.id, event.occurred_at, event.recorded_at, event.action, event.outcome, event.actor_id, event.actor_type, event.user_id, event.entity_type, event.entity_id, event.changes, event.metadata, event.request_id, event.ip, event.user_agent, event.source, event.tenant_id, event.on_behalf_of, event.db_role, event.traceparent, event.severity, nextval('usersync.audit_log_seq')
            from (
                select
                    given.id, given.occurred_at, given.action, given.outcome, given.actor_id, given.actor_type, given.entity_type, given.entity_id, given.changes, given.metadata, given.request_id, given.ip, given.user_agent, given.source, given.tenant_id, given.on_behalf_of, given.db_role, given.traceparent, given.severity,
                    now() as recorded_at,
                    case when given.user_id = any(coalesce(linked, '{}')) then given.user_id end as user_id
                from jsonb_populate_recordset(null::usersync.audit_event, events) as given
            ) as event
            on conflict ("id", "occurred_at") do nothing;
            perform usersync.check_events_stored(events);
            perform usersync.check_deferred_constraints();
            delete from usersync.sync_failures as failure where failure.failure_id = any(kept);
            return;
        exception when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
        end;
        exit when reason <> '23503';
    end loop;
    if half > 0 and left(reason, 2) not in ('42', '53', '55', '57', '58', 'XX') then
        perform usersync.record_kept_events(ids[:half]);
        perform usersync.record_kept_events(ids[half + 1:]);
        return;
    end if;
    update usersync.sync_failures as failure
    set sqlstate = reason,
        constraint_name = usersync.redact_message(reason, nullif(failed_constraint, '')),
        column_name = usersync.redact_message(reason, nullif(failed_column, '')),
        message = usersync.redact_message(reason, error_message),
        raised_in = usersync.find_raising_function(error_context),
        attempts = failure.attempts + 1,
        last_failed_at = now(),
        next_try_at = case
            when failure.attempts >= 5 then now() + interval '1 minute' * least(2 ^ least(failure.attempts - 5, 11), 1440)
        end
    where failure.kind = 'event' and failure.user_id = any(ids);
exception when others or assert_failure then
    raise warning 'usersync: kept events of % user(s) were not stored: % %', cardinality(ids), sqlstate, sqlerrm
        using hint = 'Run "usersync doctor".';
end;
$function$


-- function usersync.record_out_of_sync_users(uuid[], boolean)
owner postgres; usersync: records which of these users have rows that differ from what was written.
CREATE OR REPLACE FUNCTION usersync.record_out_of_sync_users(ids uuid[], applied_deletions boolean)
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    differing record;
    out_of_sync uuid[] := '{}'::uuid[];
begin
    for differing in
        select array_agg(checked.user_id) as ids, checked.sqlstate, checked.column_names, checked.message
        from usersync.find_out_of_sync_users(record_out_of_sync_users.ids, applied_deletions) as checked
        group by checked.sqlstate, checked.column_names, checked.message
    loop
        out_of_sync := out_of_sync || differing.ids;
        perform usersync.record_failures(
            differing.ids, differing.sqlstate, null, differing.column_names, differing.message, null);
    end loop;
    return out_of_sync;
exception when others then
    raise warning 'usersync: % row(s) differ from what was written, and the failures table could not be written',
        cardinality(out_of_sync)
        using detail = format('Users: %s. Failures table: %s %s.',
            left(array_to_string(out_of_sync, ', '), 1000), sqlstate, sqlerrm);
    return out_of_sync;
end;
$function$


-- function usersync.record_own_events(jsonb)
owner postgres; usersync: stores events that usersync itself made.
CREATE OR REPLACE FUNCTION usersync.record_own_events(events jsonb, OUT stored bigint, OUT rejected bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    select batch.stored, batch.rejected into stored, rejected
    from usersync.complete_events(record_own_events.events) as complete,
        lateral usersync.store_event_batch(complete.events, true, false) as batch;
end;
$function$


-- function usersync.record_paused_users(uuid[], text, boolean)
owner postgres; usersync: records users who are not synced because usersync is paused.
CREATE OR REPLACE FUNCTION usersync.record_paused_users(ids uuid[], fired_by text, applies_deletions boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
begin
    insert into usersync.sync_failures as failure (user_id, kind, outcome, sqlstate, message)
    select
        noted.id,
        case when noted.alive then 'row' else 'removal' end,
        case when noted.alive and fired_by = 'UPDATE' then 'degraded' else 'failed' end,
        'US004',
        'Not tried: usersync is paused. To sync the user: usersync resume'
    from (select id, usersync.auth_user_exists(id) as alive from unnest(usersync.expected_users(ids)) as id offset 0) as noted
    where noted.alive or applies_deletions
    on conflict (user_id) where kind <> 'event' do update set
        kind = excluded.kind,
        outcome = excluded.outcome,
        sqlstate = excluded.sqlstate,
        constraint_name = null,
        column_name = null,
        message = excluded.message,
        raised_in = null,
        last_failed_at = now()
    where excluded.kind = 'removal' and failure.kind <> 'removal';
exception when others or assert_failure then
    raise warning 'usersync is paused, and % user(s) could not be recorded: % %', cardinality(ids), sqlstate, sqlerrm
        using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)),
        hint = 'After "usersync resume", run "usersync sync".';
end;
$function$


-- function usersync.record_row_changes(uuid[], uuid[], jsonb[], jsonb, text, boolean)
owner postgres; usersync: records events for what has become of the rows of these users.
CREATE OR REPLACE FUNCTION usersync.record_row_changes(ids uuid[], user_ids uuid[], stored jsonb[], more jsonb, fired_by text, applied_deletions boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
    with_values boolean := usersync.records_user_events(true);
    is_deleting boolean := applied_deletions and fired_by in ('UPDATE', 'DELETE');
    created uuid[];
    transaction_id bigint := pg_current_xact_id()::text::bigint;
    changes record;
begin
    created := array(
        select target."id" from "public"."users" as target
        where target."id" = any(record_row_changes.ids) and (true)
            and target."id" <> all(coalesce(record_row_changes.user_ids, '{}'))
            and (
                fired_by = 'INSERT'
                or usersync.transaction_status(target.xmin, transaction_id) = 'in progress'
            )
            and (
                select source."deleted_at" is null from "auth"."users" as source where source."id" = target."id"
            )
    );
    perform usersync.record_created_users(created, more, fired_by);
    if cardinality(user_ids) > 0 then
        for changes in
            select changed.action, changed.is_linked, array_agg(changed.user_id) as ids, array_agg(changed.detail) as details
            from (
                select
                    compared.user_id,
                    case when compared.is_alive then 'user.updated' else 'user.deleted' end as action,
                    compared.now_stored is not null as is_linked,
                    case
                        when not compared.is_alive then jsonb_build_object('metadata', jsonb_build_object(
                            'how', case
                                when compared.now_stored is null then 'hard'
                                when compared.now_stored = compared.was_stored then 'kept'
                                when compared.policy = 'soft' then 'soft'
                                else 'anonymized'
                            end,
                            'auth_user', case when compared.is_soft_deleted then 'soft_deleted' else 'deleted' end
                        ))
                        else (
                            select jsonb_build_object('metadata', jsonb_build_object(
                                'columns', jsonb_agg(entry.key order by entry.key)
                            )) || case when with_values then jsonb_build_object('changes', jsonb_object_agg(
                                entry.key, case when entry.key = any(array[]::text[])
                                    then '["[redacted]", "[redacted]"]'
                                    else jsonb_build_array(entry.value, compared.now_stored -> entry.key)
                                end
                            )) else '{}' end
                            from jsonb_each(compared.was_stored) as entry
                            where entry.key = any(array['email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at']::text[])
                                and entry.value is distinct from compared.now_stored -> entry.key
                            having count(*) > 0
                        )
                    end as detail
                from (
                    select
                        was.user_id,
                        was.stored as was_stored,
                        new_row.stored as now_stored,
                        coalesce(source.is_alive, false) as is_alive,
                        source.is_alive is not null as is_soft_deleted,
                        case when source.is_alive is null then 'anonymize' else 'anonymize' end as policy
                    from unnest(user_ids, stored) as was (user_id, stored)
                    left join lateral (
                        select (select to_jsonb(mapped) from (select target."email" as "email", target."phone" as "phone", target."full_name" as "full_name", target."avatar_url" as "avatar_url", target."is_anonymous" as "is_anonymous", target."email_confirmed_at" as "email_confirmed_at", target."phone_confirmed_at" as "phone_confirmed_at", target."banned_until" as "banned_until", target."created_at" as "created_at", target."deleted_at" as "deleted_at") as mapped) as stored from "public"."users" as target
                        where target."id" = was.user_id offset 0
                    ) as new_row on true
                    left join lateral (
                        select source."deleted_at" is null as is_alive from "auth"."users" as source
                        where source."id" = was.user_id offset 0
                    ) as source on true
                ) as compared
                where case
                    when compared.is_alive then compared.now_stored is not null
                    when not applied_deletions then false
                    when compared.now_stored is null then compared.policy = 'delete'
                    when compared.now_stored <> compared.was_stored then compared.policy in ('anonymize', 'soft')
                    else is_deleting and compared.policy = 'keep'
                end
            ) as changed
            where changed.detail is not null
            group by changed.action, changed.is_linked
        loop
            perform usersync.record_user_events(changes.action, changes.ids, changes.details, changes.is_linked, fired_by);
        end loop;
    end if;
exception when others or assert_failure then
    raise warning 'usersync: the events of % user(s) were not recorded: % %', cardinality(ids), sqlstate, sqlerrm
        using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)), hint = 'Run "usersync doctor".';
end;
$function$


-- function usersync.record_untried_users(uuid[])
owner postgres; usersync: records users who are not tried in this transaction any more.
CREATE OR REPLACE FUNCTION usersync.record_untried_users(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '10ms'
AS $function$
begin
    if current_setting('usersync.failures_locked', true) = 'yes' then
        raise lock_not_available using message = 'another session has locked the failures table';
    end if;
    perform usersync.record_failures(
        array(
            select unnest(ids)
            except select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(ids) and failure.kind <> 'event'
        ),
        'US003', null, null,
        'Not tried: earlier attempts in the same transaction failed, and took too long or raised in a trigger of the '
            'application.',
        null
    );
exception when others or assert_failure then
    if sqlstate = '55P03' then
        perform set_config('usersync.failures_locked', 'yes', true);
    end if;
    raise warning 'usersync: % user(s) were not synced, and the failures table could not be written', cardinality(ids)
        using detail = format('Users: %s. Cause: %s %s.', left(array_to_string(ids, ', '), 1000), sqlstate, sqlerrm),
        hint = 'Run "usersync doctor", then "usersync sync".';
end;
$function$


-- function usersync.record_user_events(text, uuid[], jsonb[], boolean, text)
owner postgres; usersync: stores one event for each of these users in the audit log.
CREATE OR REPLACE FUNCTION usersync.record_user_events(event_action text, user_ids uuid[], event_details jsonb[], have_rows boolean, fired_by text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
<<recording>>
declare
    action text := event_action;
    ids uuid[] := user_ids;
    details jsonb[] := event_details;
    is_linked boolean := have_rows;
    -- An unknown caller is treated like the auth server.
    in_request boolean := coalesce(nullif(fired_by, ''), 'INSERT') in ('INSERT', 'UPDATE', 'DELETE');
    occurred_at timestamptz := clock_timestamp();
    id_prefix text := overlay(lpad(to_hex(floor(extract(epoch from recording.occurred_at) * 1000)::bigint), 12, '0') || '-7' placing '-' from 9 for 0);
    statement_timeout text := current_setting('statement_timeout');
    actor_id text;
    actor_type text;
    metadata jsonb;
    request_id text;
    ip inet;
    user_agent text;
    tenant_id text;
    on_behalf_of text;
    traceparent text;
    stored bigint;
    stored_in oid;
    kept uuid[];
    deferred text;
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
begin
    if coalesce(cardinality(recording.ids), 0) = 0 then
        return;
    end if;
    select passed.actor_id, passed.actor_type, passed.on_behalf_of, passed.tenant_id, passed.request_id, passed.ip,
        passed.user_agent, passed.traceparent, passed.metadata
    into actor_id, actor_type, on_behalf_of, tenant_id, request_id, ip, user_agent, traceparent, metadata
    from usersync.user_event_context() as passed;
    metadata := metadata || jsonb_build_object('origin', case fired_by
        when 'PAGE' then 'reconcile'
        when 'ENSURE' then 'ensure'
        when 'RETRY' then 'retry'
        when 'REQUEST' then 'request'
        else 'trigger'
    end);
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. A sign-up waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    if in_request and current_setting('usersync.keeps_user_events', true) = 'yes' then
        reason := 'US003';
        error_message := 'Not tried: an earlier event of the same transaction could not be stored.';
    elsif fired_by is distinct from 'INSERT' and current_setting('usersync.failures_locked', true) is distinct from 'yes' then
        begin
            kept := array(
                select failure.user_id from usersync.sync_failures as failure
                where failure.kind = 'event' and failure.user_id = any(recording.ids)
            );
        exception when lock_not_available then
            -- The event can be stored, even if this is before an earlier one of its user.
            perform set_config('usersync.failures_locked', 'yes', true), set_config('usersync.has_waited', 'yes', true);
        end;
        if cardinality(kept) > 0 then
            reason := 'US003';
            error_message := 'Not tried: an earlier event of the user is not stored yet.';
            if not recording.ids <@ kept then
                perform usersync.record_user_events(
                    recording.action, array_agg(changed.user_id), array_agg(changed.detail), recording.is_linked,
                    fired_by)
                from unnest(recording.ids, recording.details) as changed (user_id, detail)
                where changed.user_id <> all(kept);
                select array_agg(changed.user_id), array_agg(changed.detail) into recording.ids, recording.details
                from unnest(recording.ids, recording.details) as changed (user_id, detail)
                where changed.user_id = any(kept);
            end if;
        end if;
    end if;

    if reason is null then
        loop
            begin
                with stored as (
                    insert into "public"."audit_logs" ("id", "occurred_at", "recorded_at", "action", "outcome", "actor_id", "actor_type", "user_id", "entity_type", "entity_id", "changes", "metadata", "request_id", "ip", "user_agent", "source", "tenant_id", "on_behalf_of", "db_role", "traceparent", "severity", "seq")
                    select event.id, event.occurred_at, event.recorded_at, event.action, event.outcome, event.actor_id, event.actor_type, event.user_id, event.entity_type, event.entity_id, event.changes, event.metadata, event.request_id, event.ip, event.user_agent, event.source, event.tenant_id, event.on_behalf_of, event.db_role, event.traceparent, event.severity, nextval('usersync.audit_log_seq') from (
    select
        (recording.id_prefix || substr(gen_random_uuid()::text, 16))::uuid as id,
        recording.occurred_at as occurred_at,
        now() as recorded_at,
        recording.action as action,
        'succeeded' as outcome,
        recording.actor_id as actor_id,
        recording.actor_type as actor_type,
        case when recording.is_linked then changed.user_id end as user_id,
        'user' as entity_type,
        changed.user_id::text as entity_id,
        changed.detail -> 'changes' as changes,
        recording.metadata || coalesce(changed.detail -> 'metadata', '{}') as metadata,
        recording.request_id as request_id,
        recording.ip as ip,
        recording.user_agent as user_agent,
        'sync' as source,
        recording.tenant_id as tenant_id,
        recording.on_behalf_of as on_behalf_of,
        session_user::text as db_role,
        recording.traceparent as traceparent,
        null::text as severity
    from unnest(recording.ids, recording.details) as changed (user_id, detail)
) as event
                    returning tableoid::oid as relation
                )
                select count(*), max(stored.relation) into recording.stored, stored_in from stored;
                if recording.stored < cardinality(recording.ids) then
                    raise exception 'a trigger on the audit log returned null, so the event was not stored'
                        using errcode = 'triggered_data_change_violation';
                end if;
                -- A check of the log that waits for COMMIT would fail the sign-up there, outside of this block. A trigger
                -- may also have written to a table with such a check.
                if usersync.fires_on_insert(stored_in) then
                    if in_request and current_setting('usersync.in_request', true) is distinct from 'true' then
                        deferred := (
                            select string_agg(distinct format('%I.%I', nspname, conname), ', ')
                            from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
                            where condeferred
                        );
                        set constraints all immediate;
                        perform usersync.defer_constraints(deferred);
                    else
                        perform usersync.check_deferred_constraints();
                    end if;
                end if;
                if current_setting('statement_timeout') <> statement_timeout then
                    perform set_config('statement_timeout', statement_timeout, false);
                end if;
                return;
            exception when others or assert_failure then
                get stacked diagnostics
                    reason = returned_sqlstate,
                    failed_constraint = constraint_name,
                    failed_column = column_name,
                    error_message = message_text,
                    error_context = pg_exception_context;
            end;
            -- The audit log of the application may reference another table than the users table.
            exit when reason <> '23503' or not recording.is_linked;
            recording.is_linked := false;
        end loop;
        recording.is_linked := have_rows;
        if in_request then
            perform set_config('usersync.keeps_user_events', 'yes', true);
        end if;
        if reason = '55P03' then
            perform set_config('usersync.has_waited', 'yes', true);
        end if;
    end if;

    begin
        insert into usersync.sync_failures (
            user_id, kind, outcome, sqlstate, constraint_name, column_name, message, raised_in, event
        )
        select
            event.entity_id::uuid,
            'event',
            'failed',
            recording.reason,
            usersync.redact_message(recording.reason, nullif(recording.failed_constraint, '')),
            usersync.redact_message(recording.reason, nullif(recording.failed_column, '')),
            usersync.redact_message(recording.reason, recording.error_message),
            usersync.find_raising_function(recording.error_context),
            to_jsonb(event) - 'recorded_at'
        from (
    select
        (recording.id_prefix || substr(gen_random_uuid()::text, 16))::uuid as id,
        recording.occurred_at as occurred_at,
        now() as recorded_at,
        recording.action as action,
        'succeeded' as outcome,
        recording.actor_id as actor_id,
        recording.actor_type as actor_type,
        case when recording.is_linked then changed.user_id end as user_id,
        'user' as entity_type,
        changed.user_id::text as entity_id,
        changed.detail -> 'changes' as changes,
        recording.metadata || coalesce(changed.detail -> 'metadata', '{}') as metadata,
        recording.request_id as request_id,
        recording.ip as ip,
        recording.user_agent as user_agent,
        'sync' as source,
        recording.tenant_id as tenant_id,
        recording.on_behalf_of as on_behalf_of,
        session_user::text as db_role,
        recording.traceparent as traceparent,
        null::text as severity
    from unnest(recording.ids, recording.details) as changed (user_id, detail)
) as event;
    exception when others or assert_failure then
        raise warning 'usersync: % was not recorded for % user(s), and the failures table could not be written',
            recording.action, cardinality(recording.ids)
            using detail = format(
                'Users: %s. Cause: %s %s. Failures table: %s %s.',
                left(array_to_string(recording.ids, ', '), 1000), recording.reason,
                usersync.redact_message(recording.reason, recording.error_message), sqlstate, sqlerrm),
            hint = 'Run "usersync doctor".';
    end;
end;
$function$


-- function usersync.records_user_events(boolean)
owner postgres; usersync: whether events of users are recorded.
CREATE OR REPLACE FUNCTION usersync.records_user_events(with_values boolean DEFAULT false)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '10ms'
AS $function$
begin
    return exists (
        select from usersync.user_event_requests as request where request.with_values or not records_user_events.with_values
    );
exception when others then
    return false;
end;
$function$


-- function usersync.redact_message(text, text)
owner postgres; usersync: an error message without the personal data that it may quote.
CREATE OR REPLACE FUNCTION usersync.redact_message(reason text, message text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
AS $function$
    select left(regexp_replace(
        case
            -- The quotation marks of all languages that PostgreSQL is translated into.
            when reason like '22%' then regexp_replace(
                message,
                '["\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019\u2039\u203a\u300c\u300d].*'
                '["\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019\u2039\u203a\u300c\u300d]',
                U&'"\2026"')
            -- A quoted local part may contain spaces.
            else regexp_replace(message, '"[^"]*["]@', '@', 'g')
        end,
        '[^\s,;<>]*@[^\s,;<>]*', '<address>', 'g'
    ), 500);
$function$


-- function usersync.refuse_read_only()
owner postgres; usersync: raises an error if nothing can be written.
CREATE OR REPLACE FUNCTION usersync.refuse_read_only()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if current_setting('transaction_read_only')::boolean then
        raise read_only_sql_transaction using message = 'users cannot be synced in a read-only transaction';
    end if;
end;
$function$


-- function usersync.refuse_users_with_many_events(uuid[])
owner postgres; usersync: refuses the deletion of a user with very many audit events in the auth server's transaction.
CREATE OR REPLACE FUNCTION usersync.refuse_users_with_many_events(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    many boolean;
begin
    if usersync.audit_log() is null then
        return;
    end if;
    begin
        many := exists (
            select from unnest(ids) as going (id)
            where not exists (
                select from "auth"."users" as source where source."id" = going.id and source."deleted_at" is null
            ) and exists (select from "public"."audit_logs" as stored where stored."user_id" = going.id offset 5000)
        );
    exception when undefined_table or undefined_column then
        return;
    end;
    if many then
        raise exception 'more than 5000 audit events are linked to the user (to unlink them first: usersync retry)'
            using errcode = 'object_in_use';
    end if;
end;
$function$


-- function usersync.refuse_while_paused()
owner postgres; usersync: raises an error while usersync is paused, or if nothing can be written.
CREATE OR REPLACE FUNCTION usersync.refuse_while_paused()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    pause record;
begin
    perform usersync.refuse_read_only();
    select * into pause from usersync.pause;
    if found then
        raise exception 'usersync is paused since % by %: runs are not allowed to write the users table',
            to_char(pause.paused_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), pause.paused_by
            using errcode = 'US305', hint = 'Run "usersync resume": it ends the pause and syncs the users who changed during it.';
    end if;
end;
$function$


-- function usersync.reject_audit_event(jsonb, boolean, text, text)
owner postgres; usersync: stores an event that the audit log does not accept.
CREATE OR REPLACE FUNCTION usersync.reject_audit_event(event jsonb, is_own boolean, code text, reason text)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
insert into usersync.audit_rejects (event, sqlstate, reason, fingerprint)
values (
    event, code, left(reason, 500),
    case when event ? 'id' and not is_own then sha256(convert_to(event::text, 'UTF8')) end
)
on conflict do nothing
$function$


-- function usersync.reject_invalid_events(jsonb, boolean)
owner postgres; usersync: rejects invalid events and returns the valid ones.
CREATE OR REPLACE FUNCTION usersync.reject_invalid_events(events jsonb, is_own boolean, OUT valid jsonb, OUT rejected bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    judged record;
    valid_events jsonb[] := '{}'::jsonb[];
begin
    rejected := 0;
    for judged in
        select event, fault.code, fault.reason
        from jsonb_array_elements(events) as event
        cross join lateral usersync.validate_event(event) as fault
    loop
        if judged.code is null then
            valid_events := valid_events || judged.event;
        else
            perform usersync.reject_audit_event(judged.event, is_own, judged.code, judged.reason);
            rejected := rejected + 1;
        end if;
    end loop;
    valid := to_jsonb(valid_events);
end;
$function$


-- function usersync.remove_deleted_users(uuid[], text)
owner postgres; usersync: applies on_delete or on_soft_delete to the rows of deleted users, on request.
CREATE OR REPLACE FUNCTION usersync.remove_deleted_users(ids uuid[], kind text, OUT removed bigint, OUT failed bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    ids := array(
        select wanted.id
        from unnest(remove_deleted_users.ids) as wanted (id)
        left join "auth"."users" as source on source."id" = wanted.id
        where case remove_deleted_users.kind
            when 'orphaned' then source."id" is null
            when 'deleted_upstream' then source."deleted_at" is not null
        end
    );
    perform usersync.sync_on_request(ids, null, true);
    remove_deleted_users.failed := (
        select count(*) from usersync.sync_failures as failure
        where failure.user_id = any(ids) and failure.kind = 'removal'
    );
    remove_deleted_users.removed := cardinality(ids) - remove_deleted_users.failed;
end;
$function$


-- function usersync.remove_trigger(text)
owner postgres; usersync: removes a trigger from the auth server's table without being its owner.
CREATE OR REPLACE FUNCTION usersync.remove_trigger(trigger_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET client_min_messages TO 'warning'
AS $function$
begin
    create function usersync.nothing() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
        as 'begin return null; end';
    execute format(
        'create or replace trigger %I before insert on %s for each statement execute function usersync.nothing()',
        trigger_name, '"auth"."users"'
    );
    drop function usersync.nothing() cascade;
end;
$function$


-- function usersync.remove_users(uuid[])
owner postgres; usersync: applies on_delete and on_soft_delete to the rows of deleted users.
CREATE OR REPLACE FUNCTION usersync.remove_users(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    gone uuid[];
    soft_deleted uuid[];
    to_delete uuid[];
begin
    if 'anonymize' = 'keep' and 'anonymize' = 'keep' then
        return;
    end if;
    -- Locks the rows first. The next statement then sees the current rows of the auth server's table. FOR NO KEY UPDATE
    -- does not wait for a session that has just referenced a row.
    perform from "public"."users" as target where target."id" = any(remove_users.ids) for no key update;
    soft_deleted := array(
        select source."id" from "auth"."users" as source
        where source."id" = any(remove_users.ids) and source."deleted_at" is not null
    );
    gone := array(
        select wanted.id from unnest(remove_users.ids) as wanted (id)
        where (select true from "auth"."users" as source where source."id" = wanted.id) is null
    );
    to_delete := case when 'anonymize' = 'delete' then gone else '{}'::uuid[] end
        || case when 'anonymize' = 'delete' then soft_deleted else '{}'::uuid[] end;
    if cardinality(to_delete) > 0 then
        perform usersync.refuse_users_with_many_events(to_delete);
        delete from "public"."users" as target where target."id" = any(to_delete) and (true);
    end if;
    if 'anonymize' in ('anonymize', 'soft') then
        update "public"."users" as target
        set ("deleted_at", "email", "phone", "full_name", "avatar_url") = row(coalesce(target."deleted_at", (select source."deleted_at" from "auth"."users" as source where source."id" = target."id"), now()), usersync.placeholder('email', target."id"), usersync.placeholder('phone', target."id"), usersync.placeholder('full_name', target."id"), usersync.placeholder('avatar_url', target."id"))
        where target."id" = any(gone) and (true) and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true;
    end if;
    if 'anonymize' in ('anonymize', 'soft') then
        update "public"."users" as target
        set ("deleted_at", "email", "phone", "full_name", "avatar_url") = row(coalesce(target."deleted_at", (select source."deleted_at" from "auth"."users" as source where source."id" = target."id"), now()), usersync.placeholder('email', target."id"), usersync.placeholder('phone', target."id"), usersync.placeholder('full_name', target."id"), usersync.placeholder('avatar_url', target."id"))
        where target."id" = any(soft_deleted) and (true) and (target."deleted_at" is not null and (target."email" is null or target."email"::text = (usersync.placeholder('email', target."id"))::text) and (target."phone" is null or target."phone"::text = (usersync.placeholder('phone', target."id"))::text) and (target."full_name" is null or target."full_name"::text = (usersync.placeholder('full_name', target."id"))::text) and (target."avatar_url" is null or target."avatar_url"::text = (usersync.placeholder('avatar_url', target."id"))::text)) is not true;
    end if;
end;
$function$


-- function usersync.renew_worker(uuid, text, integer, text[], text[], interval)
owner postgres; usersync: says that a worker is alive, renews its leases, and takes its part of the shards.
CREATE OR REPLACE FUNCTION usersync.renew_worker(worker uuid, host text, pid integer, handlers text[], kinds text[], lease interval)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '5s'
AS $function$
#variable_conflict use_column
<<given>>
declare
    served text[];
    name text;
    fair integer;
    owned integer;
begin
    served := array(
        select subscription.name from usersync.subscriptions as subscription
        where subscription.state = 'active' and case subscription.kind
            when 'handler' then subscription.name = any(renew_worker.handlers)
            else subscription.kind = any(renew_worker.kinds)
        end
        order by subscription.name
    );
    insert into usersync.workers as known (worker, host, pid, subscriptions, alive_until)
    values (renew_worker.worker, renew_worker.host, renew_worker.pid, served, clock_timestamp() + renew_worker.lease)
    on conflict on constraint workers_pkey do update set
        subscriptions = excluded.subscriptions, alive_until = excluded.alive_until;

    update usersync.subscription_shards as shard set worker = null, leased_until = null
    where shard.worker = renew_worker.worker and shard.subscription <> all(served);
    foreach name in array served loop
        select ceil(16.0 / greatest(count(*), 1)) into fair from usersync.workers as other
        where other.alive_until > clock_timestamp() and given.name = any(other.subscriptions);
        update usersync.subscription_shards as shard set leased_until = clock_timestamp() + renew_worker.lease
        where shard.subscription = given.name and shard.worker = renew_worker.worker;
        get diagnostics owned = row_count;
        if owned >= fair then
            continue;
        end if;
        update usersync.subscription_shards as shard set
            worker = renew_worker.worker,
            leased_until = clock_timestamp() + renew_worker.lease,
            fence = shard.fence + 1,
            -- Only code of the application can end a process.
            careful_until = case
                when shard.worker is null or subscription.kind <> 'handler' then shard.careful_until
                else shard.position + 500
            end
        from usersync.subscriptions as subscription, (
            select free.shard from usersync.subscription_shards as free
            where free.subscription = given.name and (free.worker is null or free.leased_until < clock_timestamp())
            order by free.shard limit fair - owned for update skip locked
        ) as free
        where subscription.name = given.name and shard.subscription = given.name and shard.shard = free.shard;
        if found then
            -- None is left behind, whatever was edited by hand.
            update usersync.parked_events as parked set next_try_at = clock_timestamp()
            where parked.subscription = given.name and parked.state = 'waiting' and parked.next_try_at is null
                and not exists (
                    select from usersync.parked_events as earlier
                    where earlier.subscription = parked.subscription and earlier.state = 'waiting'
                        and earlier.entity_id = parked.entity_id and earlier.entity_type = parked.entity_type
                        and earlier.number < parked.number
                );
        end if;
    end loop;
    return (
        select coalesce(jsonb_agg(to_jsonb(subscription) || jsonb_build_object(
            'fair', (
                select ceil(16.0 / greatest(count(*), 1))::integer from usersync.workers as other
                where other.alive_until > clock_timestamp() and subscription.name = any(other.subscriptions)
            ),
            'shards', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'shard', shard.shard, 'fence', shard.fence, 'position', shard.position,
                    'careful_until', shard.careful_until, 'trying', shard.trying
                ) order by shard.shard), '[]')
                from usersync.subscription_shards as shard
                where shard.subscription = subscription.name and shard.worker = renew_worker.worker
            )
        )), '[]')
        from usersync.subscriptions as subscription where subscription.name = any(served)
    );
end;
$function$


-- function usersync.request_user_events(text, boolean, boolean)
owner postgres; usersync: switches events of users in the audit log on or off.
CREATE OR REPLACE FUNCTION usersync.request_user_events(wanted_by text, wanted boolean, with_values boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if wanted then
        insert into usersync.user_event_requests as request (wanted_by, with_values)
        values (request_user_events.wanted_by, coalesce(request_user_events.with_values, false))
        on conflict on constraint user_event_requests_pkey do update set with_values = excluded.with_values
        where request.with_values <> excluded.with_values;
    else
        delete from usersync.user_event_requests as request where request.wanted_by = request_user_events.wanted_by;
    end if;
    if found then
        -- Changes nothing, but makes PostgreSQL plan the calls of has_user_events again.
        alter table usersync.user_event_requests set (fillfactor = 100);
    end if;
end;
$function$


-- function usersync.require_audit_log()
owner postgres; usersync: raises an error if there is no audit log.
CREATE OR REPLACE FUNCTION usersync.require_audit_log()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    if usersync.audit_log() is null then
        raise exception 'there is no audit log in this database'
            using errcode = 'US301', hint = 'To create it, run: usersync audit enable';
    end if;
end;
$function$


-- function usersync.reset_columns(uuid, text[])
owner postgres; usersync: sets columns of a row to their DEFAULT.
CREATE OR REPLACE FUNCTION usersync.reset_columns(user_id uuid, column_names text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
#variable_conflict use_column
declare
    assignments text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    select string_agg(format('%I = default', name), ', ') into assignments
    from unnest(column_names) as name
    where usersync.column_defaults() -> name is not null;
    if assignments is null then
        return;
    end if;
    if records_events then
        before := usersync.user_rows(array[user_id], true);
    end if;
    execute format('update %s as target set %s where %s', '"public"."users"', assignments, 'target."id" = $1') using user_id;
    set constraints all immediate;
    if records_events then
        perform usersync.record_row_changes(
            array[user_id], before.user_ids, before.stored, null, 'UPDATE', false);
    end if;
exception when others or assert_failure then
    perform usersync.record_failures(
        array[user_id], sqlstate, null, array_to_string(column_names, ', '), sqlerrm, null);
end;
$function$


-- function usersync.resolve_users(uuid[])
owner postgres; usersync: makes sure that these users have rows, and returns the reason for those without one.
CREATE OR REPLACE FUNCTION usersync.resolve_users(ids uuid[])
 RETURNS TABLE(user_id uuid, problem text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    present uuid[];
    absent uuid[];
    problems text[];
    trouble text;
    given_up boolean := current_setting('usersync.user_links', true) = 'give_up';
begin
    if current_setting('usersync.user_links', true) = 'unlink' then
        return query
        select unnest(ids), '23503 the foreign key of the audit log does not accept the user (usersync doctor --only D025)';
        return;
    end if;
    select locking.locked_ids, locking.problem into present, trouble from usersync.lock_user_rows(ids) as locking;
    begin
        if given_up then
            trouble := coalesce(trouble, 'given up after several attempts');
        elsif cardinality(present) < cardinality(ids) then
            absent := array(
                select unnest(ids)
                except
                select target."id" from "public"."users" as target
                where target."id" = any(resolve_users.ids)
            );
            perform usersync.sync_on_request(absent, 'ENSURE');
            present := present || (select locking.locked_ids from usersync.lock_user_rows(absent) as locking);
        end if;
        absent := array(select unnest(ids) except select unnest(present));
        if cardinality(absent) > 0 then
            problems := array(
                select coalesce(
                    failure.sqlstate || ' ' || failure.message,
                    case
                        when source."id" is null then 'the auth server has no such user'
                        when source."deleted_at" is not null then 'the user is deleted'
                        when (true) is not true then 'skipped'
                    end,
                    trouble,
                    'the user has no row: the sync created none and reported no failure')
                from unnest(absent) with ordinality as wanted (id, position)
                left join usersync.sync_failures as failure
                    on failure.user_id = wanted.id and failure.outcome = 'failed' and failure.kind <> 'event'
                left join "auth"."users" as source on source."id" = wanted.id
                order by wanted.position
            );
        end if;
    exception when others or assert_failure then
        trouble := coalesce(trouble, sqlstate || ' ' || sqlerrm);
        absent := array(select unnest(ids) except select unnest(present));
        problems := array_fill(trouble, array[cardinality(absent)]);
    end;
    if current_setting('usersync.user_links', true) = 'wait' then
        -- Both errors are temporary: a lock, and a row that was changed after the snapshot of a transaction above READ
        -- COMMITTED.
        select each_problem into trouble from unnest(problems) as each_problem
        where substr(each_problem, 1, 6) in ('55P03 ', '40001 ') limit 1;
        if found then
            raise exception using errcode = left(trouble, 5), message = substr(trouble, 7);
        end if;
    end if;
    return query
    select locked.id, null::text from unnest(present) as locked (id)
    union all
    select lacking.id, lacking.problem from unnest(absent, problems) as lacking (id, problem);
end;
$function$


-- function usersync.resolved_failures()
owner postgres; usersync: the users of the failures table whose rows agree with the mapping now.
CREATE OR REPLACE FUNCTION usersync.resolved_failures()
 RETURNS uuid[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
AS $function$
#variable_conflict use_column
<<known>>
declare
    failed uuid[] := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.kind = 'row' and failure.outcome = 'failed'
    );
begin
    return array(
        select target."id" from "public"."users" as target where target."id" = any(known.failed)
        except
        select out_of_sync.user_id from usersync.find_out_of_sync_users(known.failed, false) as out_of_sync
    );
exception when others or assert_failure then
    return '{}'::uuid[];
end;
$function$


-- function usersync.restore_adopted(text)
owner postgres; usersync: restores the triggers and search paths that usersync replaced.
CREATE OR REPLACE FUNCTION usersync.restore_adopted(trigger_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    adopted record;
begin
    for adopted in
        select * from usersync.adopted
        where restore_adopted.trigger_name is null or kind = 'trigger' and name = restore_adopted.trigger_name
        order by name
    loop
        if adopted.kind = 'search_path' then
            if exists (
                select from pg_proc
                where oid = to_regprocedure(adopted.function_name)
                    and array_to_string(proconfig, ', ') = adopted.definition
            ) then
                execute format('alter function %s reset search_path', adopted.function_name);
            end if;
            continue;
        end if;
        -- 0.1.0 renamed the trigger and let it run.
        if exists (
            select from pg_trigger where tgrelid = '"auth"."users"'::regclass and tgname = adopted.moved_to
        ) then
            perform usersync.remove_trigger(adopted.moved_to);
        end if;
        if exists (select from pg_trigger where tgrelid = '"auth"."users"'::regclass and tgname = adopted.name) then
            raise warning 'usersync: the trigger % was not restored, because a trigger with this name exists', adopted.name;
            continue;
        end if;
        if to_regprocedure(adopted.function_name) is null then
            execute adopted.function_definition;
        end if;
        execute adopted.definition;
    end loop;
    delete from usersync.adopted
    where restore_adopted.trigger_name is null or kind = 'trigger' and name = restore_adopted.trigger_name;
end;
$function$


-- function usersync.resume_triggers(text)
owner postgres; usersync: makes the triggers sync users again.
CREATE OR REPLACE FUNCTION usersync.resume_triggers(resumed_by text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    ended jsonb;
begin
    delete from usersync.pause
    returning jsonb_build_object('paused_at', pause.paused_at, 'by', pause.paused_by) into ended;
    -- See pause_triggers.
    alter table usersync.pause set (fillfactor = 100);
    if ended is not null then
        perform usersync.record_admin_action('usersync.resumed', jsonb_strip_nulls(jsonb_build_object(
            'by', resumed_by, 'paused_at', ended -> 'paused_at', 'paused_by', ended -> 'by')));
    end if;
    return ended;
end;
$function$


-- function usersync.retry_users(uuid[])
owner postgres; usersync: tries these users of the failures table again, deletions included.
CREATE OR REPLACE FUNCTION usersync.retry_users(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    removals uuid[] := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.user_id = any(ids) and failure.kind = 'removal'
    );
begin
    perform usersync.sync_on_request(removals, 'RETRY', true);
    perform usersync.sync_on_request(array(select unnest(ids) except select unnest(removals)), 'RETRY');
    perform usersync.record_kept_events(ids);
end;
$function$


-- function usersync.row_triggers(regclass, integer)
owner postgres; usersync: the triggers that fire for each row after an operation, by name.
CREATE OR REPLACE FUNCTION usersync.row_triggers(relation regclass, operation integer)
 RETURNS name[]
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return array(
        select tgname from usersync.table_triggers(relation)
        where tgtype & 3 = 1 and tgtype & operation <> 0 and not tgisinternal and not tgdeferrable
    );
end;
$function$


-- function usersync.run_with_row_creation(text, jsonb)
owner postgres; usersync: runs an operation that creates rows although creates_rows is false.
CREATE OR REPLACE FUNCTION usersync.run_with_row_creation(operation text, arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    answer jsonb;
begin
    perform set_config('usersync.creates_rows', 'yes', true);
    answer := public.usersync(operation, arguments - 'create');
    -- The setting is for this operation only. An error rolls it back.
    perform set_config('usersync.creates_rows', '', true);
    return answer;
end;
$function$


-- function usersync.search_audit_log(jsonb, jsonb, boolean, integer)
owner postgres; usersync: a page of the events that match all filters.
CREATE OR REPLACE FUNCTION usersync.search_audit_log(wanted jsonb, after jsonb, oldest_first boolean, page_size integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
declare
    stored jsonb;
    events jsonb[] := '{}'::jsonb[];
    room integer := 64 * 1024 * 1024;
    more boolean := false;
begin
    for stored in execute format('select to_jsonb(page) from (%s limit %s) as page',
        usersync.audit_query(wanted, after, oldest_first), coalesce((page_size + 1)::text, 'all'))
    loop
        more := coalesce(cardinality(events) = page_size, false) or (room < 0 and page_size is not null);
        exit when more;
        events := array_append(events, stored);
        room := room - pg_column_size(stored);
    end loop;
    return jsonb_build_object('events', to_jsonb(events), 'more', more);
end;
$function$


-- function usersync.shard_of(text, text, uuid)
owner postgres; usersync: the shard of an event, by its entity.
CREATE OR REPLACE FUNCTION usersync.shard_of(entity_type text, entity_id text, event_id uuid)
 RETURNS integer
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return (get_byte(sha256(convert_to(coalesce(entity_type || '/' || entity_id, event_id::text), 'UTF8')), 0) & 15);
end;
$function$


-- function usersync.shorten_text(text, integer)
owner postgres; usersync: the audit log's record of a long text.
CREATE OR REPLACE FUNCTION usersync.shorten_text(given text, kept integer)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
select case
    when length(given) <= kept then given
    else left(given, kept) || U&'\2026 [cut: ' || length(given) || ' characters, sha256 '
        || encode(sha256(convert_to(given, 'UTF8')), 'hex') || ']'
end
$function$


-- function usersync.start_run(uuid, uuid[], uuid[], integer, bigint)
owner postgres; usersync: starts a run.
CREATE OR REPLACE FUNCTION usersync.start_run(run_id uuid, first_ids uuid[], last_ids uuid[], page_size integer, examined bigint DEFAULT NULL::bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    perform usersync.refuse_while_paused();
    delete from usersync.sync_runs as run where run.updated_at < now() - interval '90 days';
    insert into usersync.sync_runs (run_id, part, part_count, state, next_id, last_id, page_size, examined)
    select
        start_run.run_id,
        range.part,
        cardinality(start_run.first_ids),
        case when start_run.examined is null then 'running' else 'finished' end,
        case when start_run.examined is null then range.first_id end,
        range.last_id,
        start_run.page_size,
        coalesce(start_run.examined, 0)
    from unnest(start_run.first_ids, start_run.last_ids) with ordinality as range (first_id, last_id, part)
    on conflict (run_id, part) do nothing;
end;
$function$


-- function usersync.store_event_batch(jsonb, boolean, boolean)
owner postgres; usersync: stores a batch of events, and rejects those that cannot be stored.
CREATE OR REPLACE FUNCTION usersync.store_event_batch(events jsonb, is_own boolean, validated boolean, OUT stored bigint, OUT rejected bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET lock_timeout TO '2s'
AS $function$
#variable_conflict use_variable
declare
    half integer := jsonb_array_length(events) / 2;
    reason text;
    failed_constraint text;
    failed_table text;
    error_message text;
    valid jsonb := '[]'::jsonb;
    user_links text := current_setting('usersync.user_links', true);
begin
    rejected := 0;
    for attempt in 1..2 loop
        begin
            stored := usersync.insert_audit_events(events, is_own);
            return;
        exception when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate, failed_constraint = constraint_name, failed_table = table_name,
                error_message = message_text;
        end;
        -- A check violation with a table and without a constraint name means that no partition exists for this time.
        -- The second attempt succeeds if another session has created it.
        exit when reason <> '23514' or failed_constraint <> '' or failed_table = '';
        if attempt = 2 then
            reason := '55000';  -- object_not_in_prerequisite_state: not caused by the events
        end if;
    end loop;

    if left(reason, 2) not in ('22', '23', '27', '54', 'P0') then
        raise exception using errcode = reason, message = error_message;
    end if;
    if not validated then
        select checked.valid, checked.rejected into valid, rejected
        from usersync.reject_invalid_events(events, is_own) as checked;
        select rest.stored, rejected + rest.rejected into stored, rejected
        from usersync.store_event_batch(valid, is_own, true) as rest;
    elsif half > 0 then
        select first.stored + second.stored, first.rejected + second.rejected into stored, rejected
        from usersync.store_event_batch(
            jsonb_path_query_array(events, '$[0 to $last]', jsonb_build_object('last', half - 1)), is_own, true
        ) as first
        cross join lateral usersync.store_event_batch(
            jsonb_path_query_array(events, '$[$first to last]', jsonb_build_object('first', half)), is_own, true
        ) as second;
    elsif reason = '23503' and user_links is distinct from 'unlink' then
        -- The user has a row, but the audit log's foreign key references another table. No event is rejected because of
        -- its user.
        perform set_config('usersync.user_links', 'unlink', true);
        select unlinked.stored, unlinked.rejected into stored, rejected
        from usersync.store_event_batch(events, is_own, true) as unlinked;
        perform set_config('usersync.user_links', coalesce(user_links, ''), true);
    else
        perform usersync.reject_audit_event(events -> 0, is_own, reason, error_message);
        stored := 0;
        rejected := 1;
    end if;
end;
$function$


-- function usersync.stores_events_at_once(regclass)
owner postgres; usersync: whether the audit log stores events as they are inserted.
CREATE OR REPLACE FUNCTION usersync.stores_events_at_once(log regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return not usersync.fires_on_insert(log);
end;
$function$


-- function usersync.stores_rows_unchanged(regclass, regclass)
owner postgres; usersync: whether rows that are inserted into the users table are stored unchanged.
CREATE OR REPLACE FUNCTION usersync.stores_rows_unchanged(users_table regclass, source_table regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return pg_partition_root(users_table) is null
        and not (select computes_defaults from usersync.read_catalog(users_table))
        and not exists (
            select from usersync.table_triggers(users_table)
            where tgtype & 4 <> 0 and (tgdeferrable or not tgisinternal)
        )
        and not exists (
            select from usersync.table_triggers(source_table) where tgtype & 4 <> 0 and tgdeferrable
        );
end;
$function$


-- function usersync.sync_on_request(uuid[], text, boolean)
owner postgres; usersync: syncs users for an explicit call, in the caller's transaction.
CREATE OR REPLACE FUNCTION usersync.sync_on_request(ids uuid[], fired_by text DEFAULT NULL::text, applies_deletions boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    has_waited text := coalesce(current_setting('usersync.has_waited', true), '');
begin
    perform usersync.sync_users(ids, fired_by, usersync.owns_transaction(), applies_deletions);
    perform set_config('usersync.has_waited', has_waited, true);
end;
$function$


-- function usersync.sync_user(uuid, boolean)
owner postgres; usersync: syncs one user.
CREATE OR REPLACE FUNCTION usersync.sync_user(user_id uuid, applies_deletions boolean, OUT known boolean, OUT alive boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    perform usersync.sync_on_request(array[user_id], null, applies_deletions);
    sync_user.alive := exists (
        select from "auth"."users" as source where source."id" = sync_user.user_id and source."deleted_at" is null
    );
    sync_user.known := alive or usersync.user_exists(user_id)
        or exists (select from "auth"."users" as source where source."id" = sync_user.user_id);
end;
$function$


-- function usersync.sync_users(uuid[], text, boolean, boolean)
owner postgres; usersync: syncs the rows of these users; failures go to usersync.sync_failures.
CREATE OR REPLACE FUNCTION usersync.sync_users(ids uuid[], fired_by text, own_transaction boolean, applies_deletions boolean DEFAULT false)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '250ms'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    in_request boolean := not own_transaction and coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false);
    checked text := coalesce(current_setting('usersync.checked_constraints', true), '');
    statement_timeout text := current_setting('statement_timeout');
    to_check text := case when own_transaction then 'all' else '' end;
    to_defer text;
    outer_call text := coalesce(current_setting('usersync.fired_by', true), '');
begin
    if ids is null or cardinality(ids) = 0 then
        return;
    end if;
    if fired_by in ('UPDATE', 'DELETE') then
        perform set_config('usersync.has_changed_users', 'yes', true);
    end if;
    if in_request and usersync.is_paused() then
        perform usersync.record_paused_users(ids, fired_by, applies_deletions);
        return;
    end if;
    if in_request then
        select pending.checked, pending.deferred into to_check, to_defer from usersync.make_constraints_immediate() as pending;
    end if;
    perform set_config('usersync.checked_constraints', to_check, true);
    perform set_config('usersync.in_request', in_request::text, true);
    perform set_config('usersync.fired_by', coalesce(fired_by, 'REQUEST'), true);
    perform usersync.try_users(ids, fired_by, in_request, applies_deletions, cardinality(ids) = 1);
    perform set_config('usersync.checked_constraints', checked, true);
    perform set_config('usersync.in_request', '', true);
    perform set_config('usersync.fired_by', outer_call, true);
    if in_request then
        perform usersync.defer_constraints(to_defer);
        if current_setting('statement_timeout') <> statement_timeout then
            perform set_config('statement_timeout', statement_timeout, false);
        end if;
    end if;
end;
$function$


-- function usersync.table_columns(regclass, text[])
owner postgres; usersync: the columns of a table with their types, as text; computed when a statement is planned.
CREATE OR REPLACE FUNCTION usersync.table_columns(relation regclass, names text[])
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
begin
    return usersync.read_columns(relation, names);
end;
$function$


-- function usersync.table_triggers(regclass)
owner postgres; usersync: the current triggers of a table.
CREATE OR REPLACE FUNCTION usersync.table_triggers(relation regclass)
 RETURNS SETOF pg_trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
    return query select * from pg_trigger where tgrelid = relation;
end;
$function$


-- function usersync.take_parked(text, jsonb, integer, integer, interval)
owner postgres; usersync: the parked events of a worker's shards that are due.
CREATE OR REPLACE FUNCTION usersync.take_parked(subscription text, shards jsonb, most integer, untried integer, silence interval)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    numbers bigint[];
begin
    numbers := array(
        select parked.number from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.next_try_at <= clock_timestamp()
            and parked.shard = any(array(
                select shard.shard from usersync.subscription_shards as shard
                join jsonb_to_recordset(take_parked.shards) as given (shard integer, fence bigint)
                    on given.shard = shard.shard and given.fence = shard.fence
                where shard.subscription = take_parked.subscription
            ))
        order by parked.next_try_at, parked.number limit greatest(take_parked.most, take_parked.untried) for update skip locked
    );
    -- An event that ends the process would take an attempt from all others of the batch. That can happen once to each.
    if exists (
        select from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.number = any(numbers) and parked.attempts > 0
    ) then
        numbers := numbers[1:take_parked.most];
    end if;
    update usersync.parked_events as parked set
        attempts = parked.attempts + 1,
        last_tried_at = clock_timestamp(),
        -- If nothing is heard of this attempt.
        next_try_at = clock_timestamp() + (parked.attempts + 1) * take_parked.silence
    where parked.subscription = take_parked.subscription and parked.number = any(numbers);
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'number', parked.number, 'attempts', parked.attempts,
            'event', usersync.event_of_subscription(parked.subscription, parked.number)
        ) order by parked.number), '[]')
        from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.number = any(numbers)
    );
end;
$function$


-- function usersync.tenant_of_session()
owner postgres; usersync: the tenant of events that name none.
CREATE OR REPLACE FUNCTION usersync.tenant_of_session()
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    given text := coalesce(
        nullif(current_setting('usersync.tenant_id', true), ''), usersync.context_of_request() ->> 'tenant_id');
begin
    if given is null and null::text[] is not null then
        given := nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> null::text[];
    end if;
    return left(nullif(given, ''), 200);
exception when others then
    return null;  -- Any session can set this to any text.
end;
$function$


-- function usersync.time_of_id(uuid)
owner postgres; usersync: the time in a uuid of version 7.
CREATE OR REPLACE FUNCTION usersync.time_of_id(id uuid)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
select to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
where substr(id::text, 15, 1) = '7' and left(id::text, 2) < 'e0'
$function$


-- function usersync.transaction_status(xid, bigint)
owner postgres; usersync: the status of the transaction that has written a row.
CREATE OR REPLACE FUNCTION usersync.transaction_status(xmin xid, current_id bigint)
 RETURNS text
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    select pg_xact_status(
        (current_id - 2147483648 + ((xmin::text::bigint - current_id + 2147483648) & 4294967295))::text::xid8)
$function$


-- function usersync.try_users(uuid[], text, boolean, boolean, boolean)
owner postgres; usersync: writes the rows of these users, and finds those that are refused.
CREATE OR REPLACE FUNCTION usersync.try_users(ids uuid[], fired_by text, in_request boolean, applies_deletions boolean, is_alone boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    started timestamptz := clock_timestamp();
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
    written bigint;
    source_is_locked boolean := coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false);
    records_events boolean := usersync.records_user_events();
    before record;
    has_triggers boolean;
    out_of_sync uuid[] := '{}'::uuid[];
    half integer;
    unlocked uuid[];
    raised_in text;
    gives_up boolean := false;
begin
    if in_request and current_setting('usersync.gives_up', true) = 'yes' then
        perform usersync.record_untried_users(ids);
        return;
    end if;
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. A sign-up waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    begin
        if records_events and fired_by is distinct from 'INSERT' then
            before := usersync.user_rows(ids, source_is_locked);
        else
            select null::uuid[] as user_ids, null::jsonb[] as stored into before;
        end if;
        written := usersync.write_full_rows(ids, source_is_locked);
        if applies_deletions and written < cardinality(ids) then
            perform usersync.remove_users(ids);
        end if;
        -- A deferred constraint would fail the sign-up at COMMIT, outside of this block. It may be on the users table
        -- or on any table that a trigger or a cascade has written to. In a transaction of the application the checks
        -- stay deferred, because the application expects them at COMMIT.
        perform usersync.check_deferred_constraints();
        has_triggers := exists (
            select from pg_trigger where tgrelid = '"public"."users"'::regclass and not tgisinternal
        ) or exists (select from pg_inherits where inhparent = '"public"."users"'::regclass);
        -- If all rows were written and no trigger or partition can change them, there is nothing to compare.
        if has_triggers or written < cardinality(ids) then
            out_of_sync := usersync.record_out_of_sync_users(ids, applies_deletions);
        end if;
        if fired_by is distinct from 'INSERT' and current_setting('usersync.failures_locked', true) is distinct from 'yes' then
            begin
                delete from usersync.sync_failures as failure
                where failure.user_id = any(try_users.ids) and failure.kind <> 'event' and failure.user_id <> all(out_of_sync)
                    and (applies_deletions or failure.kind <> 'removal' or usersync.auth_user_exists(failure.user_id));
            exception when others then
                -- The rows are right even if the failures table is locked or missing. The next run checks it again.
                if sqlstate = '55P03' then
                    perform set_config('usersync.failures_locked', 'yes', true);
                end if;
            end;
        end if;
        if records_events then
            perform usersync.record_row_changes(
                ids, before.user_ids, before.stored, null, coalesce(fired_by, 'REQUEST'), applies_deletions);
        end if;
        if in_request then
            perform set_config('usersync.refusals', '', true);
        end if;
        return;
    exception
        -- "others" does not include two errors: assert_failure, which a trigger of the application may raise, and
        -- query_canceled, which must end the statement.
        when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
    end;

    half := cardinality(ids) / 2;
    raised_in := usersync.find_raising_function(error_context);
    if in_request then
        gives_up := usersync.count_failed_attempt(started, raised_in is not null and is_alone);
    end if;
    if reason = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    if gives_up then
        null;
    elsif half > 0 and reason = '55P03' then
        -- Another session has locked some of the rows. The other rows are written without them.
        unlocked := usersync.unlocked_users(ids);
        if cardinality(unlocked) between 1 and cardinality(ids) - 1 then
            perform usersync.try_users(unlocked, fired_by, in_request, applies_deletions, is_alone);
            ids := array(select unnest(ids) except select unnest(unlocked));
        end if;
    elsif half > 0 and (left(reason, 2) not in ('0A', '42', '53', '57', '58', 'XX') or raised_in is not null)
        and not usersync.fails_for_every_user(concat_ws(' ', reason, failed_constraint, failed_column), false)
    then
        -- A row is the cause, and not the schema. Halve the batch to find the row and to write the others.
        perform usersync.try_users(ids[:half], fired_by, in_request, applies_deletions, is_alone);
        perform usersync.try_users(ids[half + 1:], fired_by, in_request, applies_deletions, is_alone);
        return;
    elsif half = 0 and in_request and not (reason = '23505' and array['degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade'] && '{"null",suffix}') then
        perform usersync.fails_for_every_user(concat_ws(' ', reason, failed_constraint, failed_column), true);
    end if;
    if not applies_deletions then
        ids := array(select id from unnest(ids) as id where usersync.auth_user_exists(id));
    end if;
    if cardinality(ids) = 0 then
        return;
    end if;
    perform usersync.degrade_users(
        ids, reason, nullif(failed_constraint, ''), nullif(failed_column, ''), error_message, error_context
    );
end;
$function$


-- function usersync.unlink_events(uuid, integer)
owner postgres; usersync: unlinks some audit events from a deleted user.
CREATE OR REPLACE FUNCTION usersync.unlink_events(user_id uuid, batch integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
    unlinked bigint;
begin
    if usersync.audit_log() is null or exists (
        select from "auth"."users" as source
        where source."id" = unlink_events.user_id and source."deleted_at" is null
    ) then
        return 0;
    end if;
    perform set_config('usersync.maintaining', 'audit', true);
    update "public"."audit_logs" as log set "user_id" = null
    from (
        select stored.ctid as place, stored.tableoid as partition
        from (select unlink_events.user_id as id) as going
        join "public"."audit_logs" as stored on stored."user_id" = going.id
        limit unlink_events.batch
    ) as linked
    where log.ctid = linked.place and log.tableoid = linked.partition;
    get diagnostics unlinked = row_count;
    perform set_config('usersync.maintaining', '', true);
    return unlinked;
end;
$function$


-- function usersync.unlocked_users(uuid[])
owner postgres; usersync: the users whose rows no other session has locked.
CREATE OR REPLACE FUNCTION usersync.unlocked_users(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    held uuid[];
begin
    lock table "public"."users" in row exclusive mode nowait;
    held := array(
        select source."id" from "auth"."users" as source where source."id" = any(unlocked_users.ids)
        except (
            select held_now."id"
            from (
                select source."id" from "auth"."users" as source
                where source."id" = any(unlocked_users.ids) for key share skip locked
            ) as held_now
        )
    ) || array(
        select target."id" from "public"."users" as target where target."id" = any(unlocked_users.ids)
        except (
            select held_now."id"
            from (
                select target."id" from "public"."users" as target
                where target."id" = any(unlocked_users.ids) for no key update skip locked
            ) as held_now
        )
    );
    return array(select unnest(ids) except select unnest(held));
exception when others then
    return '{}'::uuid[];
end;
$function$


-- function usersync.unnumbered_events()
owner postgres; usersync: how many events of the log have no number in the feed yet, 10,000 at most.
CREATE OR REPLACE FUNCTION usersync.unnumbered_events()
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '1s'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
    most constant integer := 10000;
    state record;
    first_xid xid8;
    open_xids xid8[];
    found_events bigint;
begin
    select snapshot, cluster into state from usersync.feed;
    -- Transaction ids of another cluster mean nothing here: the next reader of the feed compares all events.
    if not found or usersync.audit_log() is null or state.cluster <> split_part(usersync.database_position(), ' ', 2) then
        return 0;
    end if;
    first_xid := pg_snapshot_xmax(state.snapshot);
    open_xids := array(select pg_snapshot_xip(state.snapshot));
    if true then
        select count(*) into found_events
        from (
            select from "public"."audit_logs" as stored
            where stored.xid >= first_xid::text::bigint or stored.xid = any(open_xids::text[]::bigint[])
            limit most
        ) as few;
    else
        select count(*) into found_events
        from (
            select from usersync.noted_events as noted
            where noted.xid >= first_xid or noted.xid = any(open_xids)
            limit most
        ) as few;
    end if;
    return found_events;
exception when lock_not_available then
    return 0;
end;
$function$


-- function usersync.user_event_context()
owner postgres; usersync: the actor, the tenant and the request of an event that usersync records.
CREATE OR REPLACE FUNCTION usersync.user_event_context(OUT actor_id text, OUT actor_type text, OUT on_behalf_of text, OUT tenant_id text, OUT request_id text, OUT ip inet, OUT user_agent text, OUT traceparent text, OUT metadata jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    role_name text;
    actor_source text;
    given text;
    claims jsonb;
    passed jsonb;
begin
    -- Who acts, for which tenant, in which request: from the application's settings, otherwise from the header of a service
    -- key, otherwise from the Data API's claims, otherwise the database role.
    role_name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    if role_name <> 'service_role' and concat(
        current_setting('usersync.actor_id', true), current_setting('usersync.actor_type', true),
        current_setting('usersync.on_behalf_of', true), current_setting('usersync.tenant_id', true),
        current_setting('usersync.request_id', true), current_setting('usersync.ip', true),
        current_setting('usersync.user_agent', true), current_setting('request.jwt.claims', true)
    ) = '' then
        actor_id := role_name;
        actor_type := 'system';
        metadata := '{"actor_source": "role"}';
    else
        if role_name = 'service_role' then
            passed := usersync.context_of_request();
        end if;
        if current_setting('request.jwt.claims', true) <> '' then
            begin
                claims := current_setting('request.jwt.claims', true)::jsonb;
            exception when others then
                claims := null;  -- Any session can set this to any text.
            end;
        end if;
        actor_source := 'setting';
        actor_id := left(nullif(current_setting('usersync.actor_id', true), ''), 200);
        actor_type := nullif(current_setting('usersync.actor_type', true), '');
        on_behalf_of := left(nullif(current_setting('usersync.on_behalf_of', true), ''), 200);
        tenant_id := left(coalesce(
            nullif(current_setting('usersync.tenant_id', true), ''),
            nullif(passed ->> 'tenant_id', ''),
            nullif(claims #>> null::text[], '')
        ), 200);
        if actor_id is null and actor_type is null and passed is not null then
            actor_id := left(nullif(passed ->> 'actor_id', ''), 200);
            actor_type := nullif(passed ->> 'actor_type', '');
            on_behalf_of := left(nullif(passed ->> 'on_behalf_of', ''), 200);
            actor_source := 'header';
        end if;
        if actor_id is not null or actor_type is not null then
            if actor_type is null or actor_type not in ('user', 'service', 'system', 'anonymous') then
                actor_type := 'user';
            end if;
        else
            actor_source := 'jwt';
            actor_id := left(coalesce(nullif(claims ->> 'sub', ''), claims ->> 'role'), 200);
            -- With impersonation (RFC 8693), "act" names who really acts.
            if claims #>> '{act,sub}' <> '' then
                on_behalf_of := left(nullif(claims ->> 'sub', ''), 200);
                actor_id := left(claims #>> '{act,sub}', 200);
            end if;
            actor_type := case
                when claims #>> '{act,sub}' <> '' then 'user'
                when claims ->> 'role' = 'service_role' then 'service'
                when nullif(claims ->> 'sub', '') is not null then 'user'
                when claims ->> 'role' = 'anon' then 'anonymous'
                else 'service'
            end;
            if actor_id is null then
                actor_source := 'role';
                actor_id := role_name;
                actor_type := 'system';
            end if;
        end if;
        metadata := jsonb_build_object('actor_source', actor_source);
        request_id := left(coalesce(
            nullif(current_setting('usersync.request_id', true), ''), nullif(passed ->> 'request_id', '')
        ), 200);
        user_agent := left(nullif(current_setting('usersync.user_agent', true), ''), 2000);
        traceparent := left(nullif(passed ->> 'traceparent', ''), 200);
        given := nullif(current_setting('usersync.ip', true), '');
        if given is not null then
            begin
                ip := given::inet;
            exception when others then
                metadata := metadata || jsonb_build_object('ip', left(given, 200));
            end;
        end if;
    end if;
    if role_name <> session_user then
        metadata := metadata || jsonb_build_object('role', role_name);
    end if;
end;
$function$


-- function usersync.user_exists(uuid)
owner postgres; usersync: whether this user has a row in the users table.
CREATE OR REPLACE FUNCTION usersync.user_exists(user_id uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
begin
    return exists (select from "public"."users" as target where target."id" = user_exists.user_id and (true));
end;
$function$


-- function usersync.user_rows(uuid[], boolean)
owner postgres; usersync: locks the rows of these users, and returns their mapped columns.
CREATE OR REPLACE FUNCTION usersync.user_rows(ids uuid[], source_is_locked boolean, OUT user_ids uuid[], OUT stored jsonb[])
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
begin
    if not source_is_locked then
        perform from "auth"."users" as source where source."id" = any(user_rows.ids) for key share;
    end if;
    perform from "public"."users" as target where target."id" = any(user_rows.ids) for no key update;
    select array_agg(target."id"), array_agg((select to_jsonb(mapped) from (select target."email" as "email", target."phone" as "phone", target."full_name" as "full_name", target."avatar_url" as "avatar_url", target."is_anonymous" as "is_anonymous", target."email_confirmed_at" as "email_confirmed_at", target."phone_confirmed_at" as "phone_confirmed_at", target."banned_until" as "banned_until", target."created_at" as "created_at", target."deleted_at" as "deleted_at") as mapped)) into user_ids, stored
    from "public"."users" as target
    where target."id" = any(user_rows.ids) and (true);
end;
$function$


-- function usersync.users_without_row(uuid[])
owner postgres; usersync: those of these users who have no row in the users table.
CREATE OR REPLACE FUNCTION usersync.users_without_row(ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET lock_timeout TO '10ms'
 SET enable_seqscan TO 'off'
AS $function$
begin
    if current_setting('usersync.has_waited', true) = 'yes' or current_setting('usersync.gives_up', true) = 'yes'
        or usersync.is_paused()
    then
        return '{}'::uuid[];
    end if;
    return array(
        select wanted.id from unnest(users_without_row.ids) as wanted (id)
        where not exists (select from "public"."users" as target where target."id" = wanted.id)
    );
exception when others or assert_failure then
    if sqlstate = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    return '{}'::uuid[];
end;
$function$


-- function usersync.validate_event(jsonb)
owner postgres; usersync: returns why an event is invalid; null if it is valid.
CREATE OR REPLACE FUNCTION usersync.validate_event(event jsonb, OUT code text, OUT reason text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
declare
    field text;
begin
    perform jsonb_populate_record(null::usersync.audit_event, event);
    return;
exception when others then
    code := sqlstate;
    reason := sqlerrm;
    if jsonb_typeof(event) <> 'object' then
        reason := 'an event must be a JSON object, not a JSON ' || jsonb_typeof(event);
        return;
    end if;
    for field in
        select attname from pg_attribute where attrelid = 'usersync.audit_event'::regclass and attnum > 0 order by attnum
    loop
        begin
            perform jsonb_populate_record(
                null::usersync.audit_event, '{"action": "any"}' || jsonb_build_object(field, event -> field));
        exception when others then
            reason := field || ': ' || sqlerrm;
            return;
        end;
    end loop;
end;
$function$


-- function usersync.write_full_rows(uuid[], boolean)
owner postgres; usersync: inserts and updates the rows of these users, and returns how many.
CREATE OR REPLACE FUNCTION usersync.write_full_rows(ids uuid[], source_is_locked boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    inserted bigint;
    updated bigint;
begin
    insert into "public"."users" ("id", "email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at")
    select source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then coalesce((known.defaults ->> 'email')::text, usersync.column_default('email')::text) end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then coalesce((known.defaults ->> 'phone')::text, usersync.column_default('phone')::text) end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then coalesce((known.defaults ->> 'full_name')::text, usersync.column_default('full_name')::text) end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then coalesce((known.defaults ->> 'avatar_url')::text, usersync.column_default('avatar_url')::text) end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then coalesce((known.defaults ->> 'is_anonymous')::boolean, usersync.column_default('is_anonymous')::boolean) end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then coalesce((known.defaults ->> 'email_confirmed_at')::timestamptz, usersync.column_default('email_confirmed_at')::timestamptz) end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then coalesce((known.defaults ->> 'phone_confirmed_at')::timestamptz, usersync.column_default('phone_confirmed_at')::timestamptz) end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then coalesce((known.defaults ->> 'banned_until')::timestamptz, usersync.column_default('banned_until')::timestamptz) end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then coalesce((known.defaults ->> 'created_at')::timestamptz, usersync.column_default('created_at')::timestamptz) end), source."deleted_at"
    from "auth"."users" as source
    where source."id" = any(write_full_rows.ids)
        and source."deleted_at" is null
        and (true)
        and (select true from "public"."users" as target where target."id" = source."id") is null
    for key share of source
    on conflict ("id") do nothing;
    get diagnostics inserted = row_count;
    if inserted = cardinality(ids) then
        return inserted;
    end if;

    if not source_is_locked then
        perform from "auth"."users" as source where source."id" = any(write_full_rows.ids) for key share;
        perform from "public"."users" as target where target."id" = any(write_full_rows.ids) for no key update;
    end if;
    update "public"."users" as target
    set ("email", "phone", "full_name", "avatar_url", "is_anonymous", "email_confirmed_at", "phone_confirmed_at", "banned_until", "created_at", "deleted_at") = (
        select coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end), source."deleted_at" from "auth"."users" as source where source."id" = target."id"
    )
    where target."id" = any(write_full_rows.ids)
        and (true)
        and (
            select row(target."id", target."email", target."phone", target."full_name", target."avatar_url", target."is_anonymous", target."email_confirmed_at", target."phone_confirmed_at", target."banned_until", target."created_at", target."deleted_at") is distinct from row(source."id", coalesce(source."email", case when known.defaults -> 'email' is not null then target."email" end), coalesce(source."phone", case when known.defaults -> 'phone' is not null then target."phone" end), coalesce(coalesce(source."raw_user_meta_data" -> 'full_name', source."raw_user_meta_data" -> 'name') #>> '{}', case when known.defaults -> 'full_name' is not null then target."full_name" end), coalesce(coalesce(source."raw_user_meta_data" -> 'avatar_url', source."raw_user_meta_data" -> 'picture') #>> '{}', case when known.defaults -> 'avatar_url' is not null then target."avatar_url" end), coalesce(source."is_anonymous", case when known.defaults -> 'is_anonymous' is not null then target."is_anonymous" end), coalesce(source."email_confirmed_at", case when known.defaults -> 'email_confirmed_at' is not null then target."email_confirmed_at" end), coalesce(source."phone_confirmed_at", case when known.defaults -> 'phone_confirmed_at' is not null then target."phone_confirmed_at" end), coalesce(source."banned_until", case when known.defaults -> 'banned_until' is not null then target."banned_until" end), coalesce(source."created_at", case when known.defaults -> 'created_at' is not null then target."created_at" end), source."deleted_at")
            from "auth"."users" as source
            where source."id" = target."id" and source."deleted_at" is null
        );
    get diagnostics updated = row_count;
    return inserted + updated;
end;
$function$


-- function usersync.write_minimal_rows(uuid[])
owner postgres; usersync: inserts rows with the id and the NOT NULL columns, for users without a row.
CREATE OR REPLACE FUNCTION usersync.write_minimal_rows(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
declare
    column_list text;
    value_list text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    if records_events then
        before := usersync.user_rows(ids, true);
    end if;
    select string_agg(quote_ident(mapped.name), ', '), string_agg(mapped.expression, ', ')
    into column_list, value_list
    from unnest(array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'], array['source."id"', 'coalesce(source."email", usersync.column_default(''email'')::text)', 'coalesce(source."phone", usersync.column_default(''phone'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}'', usersync.column_default(''full_name'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}'', usersync.column_default(''avatar_url'')::text)', 'coalesce(source."is_anonymous", usersync.column_default(''is_anonymous'')::boolean)', 'coalesce(source."email_confirmed_at", usersync.column_default(''email_confirmed_at'')::timestamptz)', 'coalesce(source."phone_confirmed_at", usersync.column_default(''phone_confirmed_at'')::timestamptz)', 'coalesce(source."banned_until", usersync.column_default(''banned_until'')::timestamptz)', 'coalesce(source."created_at", usersync.column_default(''created_at'')::timestamptz)', 'source."deleted_at"'], array['key', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth'])
        as mapped (name, expression, owner)
    join pg_attribute as required on
        required.attrelid = '"public"."users"'::regclass
        and required.attname = mapped.name
        and not required.attisdropped
    join pg_type on pg_type.oid = required.atttypid
    where mapped.owner = 'key' or ((required.attnotnull or typnotnull) and not required.atthasdef);

    execute format(
        'insert into %s (%s) select %s from %s as source '
        'where source."id" = any($1) and source."deleted_at" is null '
        'and (select true from %s as target where %s) is null on conflict (%I) do nothing',
        '"public"."users"', column_list, value_list, '"auth"."users"', '"public"."users"', 'target."id" = source."id"', 'id'
    ) using ids;
    perform usersync.check_deferred_constraints();
    if records_events then
        perform usersync.record_row_changes(
            ids, before.user_ids, before.stored, '{"degraded": true}', current_setting('usersync.fired_by', true), false);
    end if;
end;
$function$


-- function usersync.write_row_without_conflict(uuid, text)
owner postgres; usersync: writes the row of a user with a duplicate value in a unique column, as on_conflict says.
CREATE OR REPLACE FUNCTION usersync.write_row_without_conflict(user_id uuid, failed_constraint text, OUT written boolean, OUT lacking text, OUT lacking_for text)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET lc_monetary TO 'C'
AS $function$
#variable_conflict use_column
declare
    names text[] := array['id', 'email', 'phone', 'full_name', 'avatar_url', 'is_anonymous', 'email_confirmed_at', 'phone_confirmed_at', 'banned_until', 'created_at', 'deleted_at'];
    expressions text[] := array['source."id"', 'coalesce(source."email", usersync.column_default(''email'')::text)', 'coalesce(source."phone", usersync.column_default(''phone'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}'', usersync.column_default(''full_name'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}'', usersync.column_default(''avatar_url'')::text)', 'coalesce(source."is_anonymous", usersync.column_default(''is_anonymous'')::boolean)', 'coalesce(source."email_confirmed_at", usersync.column_default(''email_confirmed_at'')::timestamptz)', 'coalesce(source."phone_confirmed_at", usersync.column_default(''phone_confirmed_at'')::timestamptz)', 'coalesce(source."banned_until", usersync.column_default(''banned_until'')::timestamptz)', 'coalesce(source."created_at", usersync.column_default(''created_at'')::timestamptz)', 'source."deleted_at"'];
    owners text[] := array['key', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth', 'auth'];
    policies text[] := array['degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade', 'degrade'];
    tries integer[] := array_fill(0, array[cardinality(names)]);
    digits integer;
    colliding integer;
    statement text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    written := false;
    -- As in write_full_rows: locks first and compares afterwards, so that no newer value is overwritten.
    perform from "auth"."users" as source where source."id" = write_row_without_conflict.user_id for key share;
    perform from "public"."users" as target where target."id" = write_row_without_conflict.user_id for no key update;
    if records_events then
        before := usersync.user_rows(array[user_id], true);
    end if;
    loop
        select subscript into colliding
        from generate_subscripts(names, 1) as subscript
        where names[subscript] = any(usersync.constraint_columns(failed_constraint))
            and owners[subscript] <> 'key'
            and tries[subscript] < case policies[subscript] when 'suffix' then 3 else 1 end
        -- In a unique index of several columns, columns with on_conflict come first. Another column is left empty only
        -- after them: that row has more values than a minimal row.
        order by policies[subscript] = 'degrade', subscript
        limit 1;
        exit when colliding is null;
        tries[colliding] := tries[colliding] + 1;
        if policies[colliding] <> 'suffix' then
            expressions[colliding] := 'null';
            lacking := names[colliding];
            lacking_for := failed_constraint;
        else
            digits := (array[4, 8, 32])[tries[colliding]];
            expressions[colliding] := (
                select format(
                    'left((%s)::text, %s) || ''_'' || left(replace(source."id"::text, ''-'', ''''), %s)',
                    (array['source."id"', 'coalesce(source."email", usersync.column_default(''email'')::text)', 'coalesce(source."phone", usersync.column_default(''phone'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''full_name'', source."raw_user_meta_data" -> ''name'') #>> ''{}'', usersync.column_default(''full_name'')::text)', 'coalesce(coalesce(source."raw_user_meta_data" -> ''avatar_url'', source."raw_user_meta_data" -> ''picture'') #>> ''{}'', usersync.column_default(''avatar_url'')::text)', 'coalesce(source."is_anonymous", usersync.column_default(''is_anonymous'')::boolean)', 'coalesce(source."email_confirmed_at", usersync.column_default(''email_confirmed_at'')::timestamptz)', 'coalesce(source."phone_confirmed_at", usersync.column_default(''phone_confirmed_at'')::timestamptz)', 'coalesce(source."banned_until", usersync.column_default(''banned_until'')::timestamptz)', 'coalesce(source."created_at", usersync.column_default(''created_at'')::timestamptz)', 'source."deleted_at"'])[colliding],
                    case when width > 0 then greatest(width - digits - 1, 0) else 1 << 20 end,
                    digits
                )
                from (
                    select coalesce(nullif(atttypmod, -1), typtypmod) - 4 as width
                    from pg_attribute
                    join pg_type on pg_type.oid = atttypid
                    where attrelid = '"public"."users"'::regclass and attname = names[colliding]
                ) as target_column
            );
        end if;
        begin
            execute (
                select format(
                    'insert into %s (%s) select %s from %s as source where source."id" = $1 '
                    'and source."deleted_at" is null '
                    'and (select true from %1$s as target where %6$s) is null '
                    'on conflict (%5$I) do nothing',
                    '"public"."users"', string_agg(quote_ident(names[subscript]), ', '),
                    string_agg(expressions[subscript], ', '), '"auth"."users"', 'id', 'target."id" = source."id"'
                )
                from generate_subscripts(names, 1) as subscript
            ) using user_id;
            -- App-owned columns were written when the row was created.
            select format(
                'update %s as target set (%s) = (select %s from %s as source where source."id" = $1) '
                'where %s and (select row(%s)::text is distinct from row(%s)::text from %4$s as source '
                'where source."id" = $1 and source."deleted_at" is null)',
                '"public"."users"',
                string_agg(quote_ident(attname), ', '),
                string_agg(expressions[subscript], ', '),
                '"auth"."users"',
                'target."id" = $1',
                string_agg(format('target.%I', attname), ', '),
                string_agg(format('(%s)::%s', expressions[subscript], format_type(atttypid, atttypmod)), ', ')
            )
            into statement
            from generate_subscripts(names, 1) as subscript
            join pg_attribute on attrelid = '"public"."users"'::regclass and attname = names[subscript]
            where owners[subscript] = 'auth'
            having count(*) > 0;
            if statement is not null then
                execute statement using user_id;
            end if;
            perform usersync.check_deferred_constraints();
            if records_events then
                perform usersync.record_row_changes(
                    array[user_id], before.user_ids, before.stored,
                    case when lacking is not null then jsonb '{"degraded": true}' end,
                    current_setting('usersync.fired_by', true), false);
            end if;
            written := true;
            return;
        exception when unique_violation then
            get stacked diagnostics failed_constraint = constraint_name;
        end;
    end loop;
exception when others or assert_failure then
    written := false;  -- The failures table gets the first error.
end;
$function$


-- schema usersync
owner postgres; usersync: keeps the application's users in sync with the auth server's. Not for the Data API.

-- table public.audit_logs
kind p; owner postgres; rls t f; The audit log, made by usersync: what happened, who did it (actor_id, a fact that stays) and the same person as a link (user_id). Append-only. Written by public.record_audit_events.

-- table public.audit_logs column action
text; not null

-- table public.audit_logs column actor_id
text

-- table public.audit_logs column actor_type
text; not null

-- table public.audit_logs column changes
jsonb

-- table public.audit_logs column db_role
text; The role of the database session, written by the database.

-- table public.audit_logs column entity_id
text

-- table public.audit_logs column entity_type
text

-- table public.audit_logs column id
uuid; not null

-- table public.audit_logs column ip
inet

-- table public.audit_logs column metadata
jsonb; not null; default '{}'::jsonb

-- table public.audit_logs column occurred_at
timestamp with time zone; not null

-- table public.audit_logs column on_behalf_of
text; The user as whom the actor acted (impersonation). actor_id is the one who really did it.

-- table public.audit_logs column outcome
text; not null

-- table public.audit_logs column recorded_at
timestamp with time zone; not null; default now()

-- table public.audit_logs column request_id
text

-- table public.audit_logs column seq
bigint; The order of insertion, with gaps. Null: stored by an earlier release, or by its triggers.

-- table public.audit_logs column severity
text; info, low, medium, high or critical; null: not rated.

-- table public.audit_logs column source
text; not null

-- table public.audit_logs column tenant_id
text; The customer (organisation) that the event belongs to.

-- table public.audit_logs column traceparent
text; The W3C trace context of the request.

-- table public.audit_logs column user_agent
text

-- table public.audit_logs column user_id
uuid

-- table public.audit_logs column xid
bigint; default ((pg_current_xact_id())::text)::bigint; The transaction that inserted the event, as pg_current_xact_id() says. A bigint, because BRIN indexes do not support xid8. Has no meaning in another database cluster. Null: stored by an earlier release.

-- table public.audit_logs constraint audit_logs_pkey
PRIMARY KEY (id, occurred_at)

-- table public.audit_logs constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table public.audit_logs granted to service_role
SELECT

-- table public.audit_logs index
CREATE INDEX audit_logs_action_occurred_at_idx ON ONLY public.audit_logs USING btree (action, occurred_at)
CREATE INDEX audit_logs_actor_id_occurred_at_idx ON ONLY public.audit_logs USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_entity_type_entity_id_occurred_at_idx ON ONLY public.audit_logs USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_occurred_at_idx ON ONLY public.audit_logs USING btree (occurred_at)
CREATE INDEX audit_logs_on_behalf_of_occurred_at_idx ON ONLY public.audit_logs USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_recorded_at_xid_idx ON ONLY public.audit_logs USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_request_id_idx ON ONLY public.audit_logs USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_tenant_id_occurred_at_idx ON ONLY public.audit_logs USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_user_id_occurred_at_idx ON ONLY public.audit_logs USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_pkey ON ONLY public.audit_logs USING btree (id, occurred_at)

-- table public.audit_logs policy "Only the service role reads the log"
r to {service_role} using true check 

-- table public.users
kind r; owner postgres; rls t f; The application's users, created by usersync and kept in sync with the auth server's. The row of a deleted user keeps its id, so that foreign keys stay valid.

-- table public.users column avatar_url
text

-- table public.users column banned_until
timestamp with time zone

-- table public.users column created_at
timestamp with time zone

-- table public.users column deleted_at
timestamp with time zone

-- table public.users column email
text

-- table public.users column email_confirmed_at
timestamp with time zone

-- table public.users column full_name
text

-- table public.users column id
uuid; not null

-- table public.users column is_anonymous
boolean

-- table public.users column phone
text

-- table public.users column phone_confirmed_at
timestamp with time zone

-- table public.users constraint users_pkey
PRIMARY KEY (id)

-- table public.users granted to authenticated
SELECT

-- table public.users granted to service_role
DELETE, INSERT, SELECT, UPDATE

-- table public.users index
CREATE UNIQUE INDEX users_pkey ON public.users USING btree (id)

-- table public.users policy "Users read their own row"
r to {authenticated} using ((( SELECT auth.uid() AS uid) = id) AND (((( SELECT auth.jwt() AS jwt) ->> 'is_anonymous'::text))::boolean IS NOT TRUE)) check 

-- table usersync.adopted
kind r; owner postgres; rls f f; Triggers on the auth server's table that usersync has replaced, and functions whose search_path it has set, each as it was before. "usersync rollback" restores them.

-- table usersync.adopted column adopted_at
timestamp with time zone; not null; default now()

-- table usersync.adopted column definition
text; not null

-- table usersync.adopted column function_definition
text; not null; The statements that create the function again, with its privileges, if it no longer exists.

-- table usersync.adopted column function_name
text; not null

-- table usersync.adopted column kind
text; not null

-- table usersync.adopted column moved_to
text; The new name of a trigger that still runs, because it does more than usersync does.

-- table usersync.adopted column name
text; not null

-- table usersync.adopted constraint adopted_kind_check
CHECK ((kind = ANY (ARRAY['trigger'::text, 'search_path'::text])))

-- table usersync.adopted constraint adopted_pkey
PRIMARY KEY (kind, name)

-- table usersync.adopted index
CREATE UNIQUE INDEX adopted_pkey ON usersync.adopted USING btree (kind, name)

-- table usersync.audit_holds
kind r; owner postgres; rls f f; Legal holds: events of these tenants and entities are neither pruned nor erased.

-- table usersync.audit_holds column created_at
timestamp with time zone; not null; default now()

-- table usersync.audit_holds column created_by
text; not null; default SESSION_USER

-- table usersync.audit_holds column entity_id
text

-- table usersync.audit_holds column entity_type
text

-- table usersync.audit_holds column hold_id
bigint; not null; a

-- table usersync.audit_holds column reason
text; not null

-- table usersync.audit_holds column tenant_id
text

-- table usersync.audit_holds constraint audit_holds_pkey
PRIMARY KEY (hold_id)

-- table usersync.audit_holds constraint holds_a_tenant_or_an_entity
CHECK ((((tenant_id IS NOT NULL) <> (entity_type IS NOT NULL)) AND ((entity_id IS NULL) OR (entity_type IS NOT NULL))))

-- table usersync.audit_holds index
CREATE UNIQUE INDEX audit_holds_pkey ON usersync.audit_holds USING btree (hold_id)

-- table usersync.audit_holds_hold_id_seq
kind S; owner postgres; rls f f; 

-- table usersync.audit_holds_hold_id_seq column is_called
boolean; not null

-- table usersync.audit_holds_hold_id_seq column last_value
bigint; not null

-- table usersync.audit_holds_hold_id_seq column log_cnt
bigint; not null

-- table usersync.audit_log_seq
kind S; owner postgres; rls f f; The order in which events were inserted into the audit log.

-- table usersync.audit_log_seq column is_called
boolean; not null

-- table usersync.audit_log_seq column last_value
bigint; not null

-- table usersync.audit_log_seq column log_cnt
bigint; not null

-- table usersync.audit_logs_2026_11
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2026_11 column action
text; not null

-- table usersync.audit_logs_2026_11 column actor_id
text

-- table usersync.audit_logs_2026_11 column actor_type
text; not null

-- table usersync.audit_logs_2026_11 column changes
jsonb

-- table usersync.audit_logs_2026_11 column db_role
text

-- table usersync.audit_logs_2026_11 column entity_id
text

-- table usersync.audit_logs_2026_11 column entity_type
text

-- table usersync.audit_logs_2026_11 column id
uuid; not null

-- table usersync.audit_logs_2026_11 column ip
inet

-- table usersync.audit_logs_2026_11 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2026_11 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2026_11 column on_behalf_of
text

-- table usersync.audit_logs_2026_11 column outcome
text; not null

-- table usersync.audit_logs_2026_11 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2026_11 column request_id
text

-- table usersync.audit_logs_2026_11 column seq
bigint

-- table usersync.audit_logs_2026_11 column severity
text

-- table usersync.audit_logs_2026_11 column source
text; not null

-- table usersync.audit_logs_2026_11 column tenant_id
text

-- table usersync.audit_logs_2026_11 column traceparent
text

-- table usersync.audit_logs_2026_11 column user_agent
text

-- table usersync.audit_logs_2026_11 column user_id
uuid

-- table usersync.audit_logs_2026_11 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2026_11 constraint audit_logs_2026_11_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2026_11 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2026_11 index
CREATE INDEX audit_logs_2026_11_action_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2026_11_actor_id_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2026_11_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2026_11_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (occurred_at)
CREATE INDEX audit_logs_2026_11_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2026_11_recorded_at_xid_idx ON usersync.audit_logs_2026_11 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2026_11_request_id_idx ON usersync.audit_logs_2026_11 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2026_11_tenant_id_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2026_11_user_id_occurred_at_idx ON usersync.audit_logs_2026_11 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2026_11_pkey ON usersync.audit_logs_2026_11 USING btree (id, occurred_at)

-- table usersync.audit_logs_2026_12
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2026_12 column action
text; not null

-- table usersync.audit_logs_2026_12 column actor_id
text

-- table usersync.audit_logs_2026_12 column actor_type
text; not null

-- table usersync.audit_logs_2026_12 column changes
jsonb

-- table usersync.audit_logs_2026_12 column db_role
text

-- table usersync.audit_logs_2026_12 column entity_id
text

-- table usersync.audit_logs_2026_12 column entity_type
text

-- table usersync.audit_logs_2026_12 column id
uuid; not null

-- table usersync.audit_logs_2026_12 column ip
inet

-- table usersync.audit_logs_2026_12 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2026_12 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2026_12 column on_behalf_of
text

-- table usersync.audit_logs_2026_12 column outcome
text; not null

-- table usersync.audit_logs_2026_12 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2026_12 column request_id
text

-- table usersync.audit_logs_2026_12 column seq
bigint

-- table usersync.audit_logs_2026_12 column severity
text

-- table usersync.audit_logs_2026_12 column source
text; not null

-- table usersync.audit_logs_2026_12 column tenant_id
text

-- table usersync.audit_logs_2026_12 column traceparent
text

-- table usersync.audit_logs_2026_12 column user_agent
text

-- table usersync.audit_logs_2026_12 column user_id
uuid

-- table usersync.audit_logs_2026_12 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2026_12 constraint audit_logs_2026_12_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2026_12 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2026_12 index
CREATE INDEX audit_logs_2026_12_action_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2026_12_actor_id_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2026_12_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2026_12_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (occurred_at)
CREATE INDEX audit_logs_2026_12_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2026_12_recorded_at_xid_idx ON usersync.audit_logs_2026_12 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2026_12_request_id_idx ON usersync.audit_logs_2026_12 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2026_12_tenant_id_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2026_12_user_id_occurred_at_idx ON usersync.audit_logs_2026_12 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2026_12_pkey ON usersync.audit_logs_2026_12 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_01
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_01 column action
text; not null

-- table usersync.audit_logs_2027_01 column actor_id
text

-- table usersync.audit_logs_2027_01 column actor_type
text; not null

-- table usersync.audit_logs_2027_01 column changes
jsonb

-- table usersync.audit_logs_2027_01 column db_role
text

-- table usersync.audit_logs_2027_01 column entity_id
text

-- table usersync.audit_logs_2027_01 column entity_type
text

-- table usersync.audit_logs_2027_01 column id
uuid; not null

-- table usersync.audit_logs_2027_01 column ip
inet

-- table usersync.audit_logs_2027_01 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_01 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_01 column on_behalf_of
text

-- table usersync.audit_logs_2027_01 column outcome
text; not null

-- table usersync.audit_logs_2027_01 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_01 column request_id
text

-- table usersync.audit_logs_2027_01 column seq
bigint

-- table usersync.audit_logs_2027_01 column severity
text

-- table usersync.audit_logs_2027_01 column source
text; not null

-- table usersync.audit_logs_2027_01 column tenant_id
text

-- table usersync.audit_logs_2027_01 column traceparent
text

-- table usersync.audit_logs_2027_01 column user_agent
text

-- table usersync.audit_logs_2027_01 column user_id
uuid

-- table usersync.audit_logs_2027_01 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_01 constraint audit_logs_2027_01_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_01 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_01 index
CREATE INDEX audit_logs_2027_01_action_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_01_actor_id_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_01_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_01_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_01_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_01_recorded_at_xid_idx ON usersync.audit_logs_2027_01 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_01_request_id_idx ON usersync.audit_logs_2027_01 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_01_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_01_user_id_occurred_at_idx ON usersync.audit_logs_2027_01 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_01_pkey ON usersync.audit_logs_2027_01 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_02
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_02 column action
text; not null

-- table usersync.audit_logs_2027_02 column actor_id
text

-- table usersync.audit_logs_2027_02 column actor_type
text; not null

-- table usersync.audit_logs_2027_02 column changes
jsonb

-- table usersync.audit_logs_2027_02 column db_role
text

-- table usersync.audit_logs_2027_02 column entity_id
text

-- table usersync.audit_logs_2027_02 column entity_type
text

-- table usersync.audit_logs_2027_02 column id
uuid; not null

-- table usersync.audit_logs_2027_02 column ip
inet

-- table usersync.audit_logs_2027_02 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_02 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_02 column on_behalf_of
text

-- table usersync.audit_logs_2027_02 column outcome
text; not null

-- table usersync.audit_logs_2027_02 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_02 column request_id
text

-- table usersync.audit_logs_2027_02 column seq
bigint

-- table usersync.audit_logs_2027_02 column severity
text

-- table usersync.audit_logs_2027_02 column source
text; not null

-- table usersync.audit_logs_2027_02 column tenant_id
text

-- table usersync.audit_logs_2027_02 column traceparent
text

-- table usersync.audit_logs_2027_02 column user_agent
text

-- table usersync.audit_logs_2027_02 column user_id
uuid

-- table usersync.audit_logs_2027_02 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_02 constraint audit_logs_2027_02_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_02 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_02 index
CREATE INDEX audit_logs_2027_02_action_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_02_actor_id_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_02_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_02_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_02_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_02_recorded_at_xid_idx ON usersync.audit_logs_2027_02 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_02_request_id_idx ON usersync.audit_logs_2027_02 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_02_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_02_user_id_occurred_at_idx ON usersync.audit_logs_2027_02 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_02_pkey ON usersync.audit_logs_2027_02 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_03
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_03 column action
text; not null

-- table usersync.audit_logs_2027_03 column actor_id
text

-- table usersync.audit_logs_2027_03 column actor_type
text; not null

-- table usersync.audit_logs_2027_03 column changes
jsonb

-- table usersync.audit_logs_2027_03 column db_role
text

-- table usersync.audit_logs_2027_03 column entity_id
text

-- table usersync.audit_logs_2027_03 column entity_type
text

-- table usersync.audit_logs_2027_03 column id
uuid; not null

-- table usersync.audit_logs_2027_03 column ip
inet

-- table usersync.audit_logs_2027_03 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_03 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_03 column on_behalf_of
text

-- table usersync.audit_logs_2027_03 column outcome
text; not null

-- table usersync.audit_logs_2027_03 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_03 column request_id
text

-- table usersync.audit_logs_2027_03 column seq
bigint

-- table usersync.audit_logs_2027_03 column severity
text

-- table usersync.audit_logs_2027_03 column source
text; not null

-- table usersync.audit_logs_2027_03 column tenant_id
text

-- table usersync.audit_logs_2027_03 column traceparent
text

-- table usersync.audit_logs_2027_03 column user_agent
text

-- table usersync.audit_logs_2027_03 column user_id
uuid

-- table usersync.audit_logs_2027_03 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_03 constraint audit_logs_2027_03_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_03 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_03 index
CREATE INDEX audit_logs_2027_03_action_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_03_actor_id_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_03_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_03_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_03_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_03_recorded_at_xid_idx ON usersync.audit_logs_2027_03 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_03_request_id_idx ON usersync.audit_logs_2027_03 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_03_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_03_user_id_occurred_at_idx ON usersync.audit_logs_2027_03 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_03_pkey ON usersync.audit_logs_2027_03 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_04
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_04 column action
text; not null

-- table usersync.audit_logs_2027_04 column actor_id
text

-- table usersync.audit_logs_2027_04 column actor_type
text; not null

-- table usersync.audit_logs_2027_04 column changes
jsonb

-- table usersync.audit_logs_2027_04 column db_role
text

-- table usersync.audit_logs_2027_04 column entity_id
text

-- table usersync.audit_logs_2027_04 column entity_type
text

-- table usersync.audit_logs_2027_04 column id
uuid; not null

-- table usersync.audit_logs_2027_04 column ip
inet

-- table usersync.audit_logs_2027_04 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_04 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_04 column on_behalf_of
text

-- table usersync.audit_logs_2027_04 column outcome
text; not null

-- table usersync.audit_logs_2027_04 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_04 column request_id
text

-- table usersync.audit_logs_2027_04 column seq
bigint

-- table usersync.audit_logs_2027_04 column severity
text

-- table usersync.audit_logs_2027_04 column source
text; not null

-- table usersync.audit_logs_2027_04 column tenant_id
text

-- table usersync.audit_logs_2027_04 column traceparent
text

-- table usersync.audit_logs_2027_04 column user_agent
text

-- table usersync.audit_logs_2027_04 column user_id
uuid

-- table usersync.audit_logs_2027_04 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_04 constraint audit_logs_2027_04_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_04 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_04 index
CREATE INDEX audit_logs_2027_04_action_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_04_actor_id_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_04_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_04_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_04_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_04_recorded_at_xid_idx ON usersync.audit_logs_2027_04 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_04_request_id_idx ON usersync.audit_logs_2027_04 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_04_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_04_user_id_occurred_at_idx ON usersync.audit_logs_2027_04 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_04_pkey ON usersync.audit_logs_2027_04 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_05
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_05 column action
text; not null

-- table usersync.audit_logs_2027_05 column actor_id
text

-- table usersync.audit_logs_2027_05 column actor_type
text; not null

-- table usersync.audit_logs_2027_05 column changes
jsonb

-- table usersync.audit_logs_2027_05 column db_role
text

-- table usersync.audit_logs_2027_05 column entity_id
text

-- table usersync.audit_logs_2027_05 column entity_type
text

-- table usersync.audit_logs_2027_05 column id
uuid; not null

-- table usersync.audit_logs_2027_05 column ip
inet

-- table usersync.audit_logs_2027_05 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_05 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_05 column on_behalf_of
text

-- table usersync.audit_logs_2027_05 column outcome
text; not null

-- table usersync.audit_logs_2027_05 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_05 column request_id
text

-- table usersync.audit_logs_2027_05 column seq
bigint

-- table usersync.audit_logs_2027_05 column severity
text

-- table usersync.audit_logs_2027_05 column source
text; not null

-- table usersync.audit_logs_2027_05 column tenant_id
text

-- table usersync.audit_logs_2027_05 column traceparent
text

-- table usersync.audit_logs_2027_05 column user_agent
text

-- table usersync.audit_logs_2027_05 column user_id
uuid

-- table usersync.audit_logs_2027_05 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_05 constraint audit_logs_2027_05_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_05 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_05 index
CREATE INDEX audit_logs_2027_05_action_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_05_actor_id_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_05_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_05_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_05_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_05_recorded_at_xid_idx ON usersync.audit_logs_2027_05 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_05_request_id_idx ON usersync.audit_logs_2027_05 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_05_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_05_user_id_occurred_at_idx ON usersync.audit_logs_2027_05 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_05_pkey ON usersync.audit_logs_2027_05 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_06
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_06 column action
text; not null

-- table usersync.audit_logs_2027_06 column actor_id
text

-- table usersync.audit_logs_2027_06 column actor_type
text; not null

-- table usersync.audit_logs_2027_06 column changes
jsonb

-- table usersync.audit_logs_2027_06 column db_role
text

-- table usersync.audit_logs_2027_06 column entity_id
text

-- table usersync.audit_logs_2027_06 column entity_type
text

-- table usersync.audit_logs_2027_06 column id
uuid; not null

-- table usersync.audit_logs_2027_06 column ip
inet

-- table usersync.audit_logs_2027_06 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_06 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_06 column on_behalf_of
text

-- table usersync.audit_logs_2027_06 column outcome
text; not null

-- table usersync.audit_logs_2027_06 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_06 column request_id
text

-- table usersync.audit_logs_2027_06 column seq
bigint

-- table usersync.audit_logs_2027_06 column severity
text

-- table usersync.audit_logs_2027_06 column source
text; not null

-- table usersync.audit_logs_2027_06 column tenant_id
text

-- table usersync.audit_logs_2027_06 column traceparent
text

-- table usersync.audit_logs_2027_06 column user_agent
text

-- table usersync.audit_logs_2027_06 column user_id
uuid

-- table usersync.audit_logs_2027_06 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_06 constraint audit_logs_2027_06_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_06 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_06 index
CREATE INDEX audit_logs_2027_06_action_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_06_actor_id_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_06_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_06_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_06_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_06_recorded_at_xid_idx ON usersync.audit_logs_2027_06 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_06_request_id_idx ON usersync.audit_logs_2027_06 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_06_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_06_user_id_occurred_at_idx ON usersync.audit_logs_2027_06 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_06_pkey ON usersync.audit_logs_2027_06 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_07
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_07 column action
text; not null

-- table usersync.audit_logs_2027_07 column actor_id
text

-- table usersync.audit_logs_2027_07 column actor_type
text; not null

-- table usersync.audit_logs_2027_07 column changes
jsonb

-- table usersync.audit_logs_2027_07 column db_role
text

-- table usersync.audit_logs_2027_07 column entity_id
text

-- table usersync.audit_logs_2027_07 column entity_type
text

-- table usersync.audit_logs_2027_07 column id
uuid; not null

-- table usersync.audit_logs_2027_07 column ip
inet

-- table usersync.audit_logs_2027_07 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_07 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_07 column on_behalf_of
text

-- table usersync.audit_logs_2027_07 column outcome
text; not null

-- table usersync.audit_logs_2027_07 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_07 column request_id
text

-- table usersync.audit_logs_2027_07 column seq
bigint

-- table usersync.audit_logs_2027_07 column severity
text

-- table usersync.audit_logs_2027_07 column source
text; not null

-- table usersync.audit_logs_2027_07 column tenant_id
text

-- table usersync.audit_logs_2027_07 column traceparent
text

-- table usersync.audit_logs_2027_07 column user_agent
text

-- table usersync.audit_logs_2027_07 column user_id
uuid

-- table usersync.audit_logs_2027_07 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_07 constraint audit_logs_2027_07_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_07 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_07 index
CREATE INDEX audit_logs_2027_07_action_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_07_actor_id_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_07_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_07_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_07_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_07_recorded_at_xid_idx ON usersync.audit_logs_2027_07 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_07_request_id_idx ON usersync.audit_logs_2027_07 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_07_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_07_user_id_occurred_at_idx ON usersync.audit_logs_2027_07 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_07_pkey ON usersync.audit_logs_2027_07 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_08
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_08 column action
text; not null

-- table usersync.audit_logs_2027_08 column actor_id
text

-- table usersync.audit_logs_2027_08 column actor_type
text; not null

-- table usersync.audit_logs_2027_08 column changes
jsonb

-- table usersync.audit_logs_2027_08 column db_role
text

-- table usersync.audit_logs_2027_08 column entity_id
text

-- table usersync.audit_logs_2027_08 column entity_type
text

-- table usersync.audit_logs_2027_08 column id
uuid; not null

-- table usersync.audit_logs_2027_08 column ip
inet

-- table usersync.audit_logs_2027_08 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_08 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_08 column on_behalf_of
text

-- table usersync.audit_logs_2027_08 column outcome
text; not null

-- table usersync.audit_logs_2027_08 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_08 column request_id
text

-- table usersync.audit_logs_2027_08 column seq
bigint

-- table usersync.audit_logs_2027_08 column severity
text

-- table usersync.audit_logs_2027_08 column source
text; not null

-- table usersync.audit_logs_2027_08 column tenant_id
text

-- table usersync.audit_logs_2027_08 column traceparent
text

-- table usersync.audit_logs_2027_08 column user_agent
text

-- table usersync.audit_logs_2027_08 column user_id
uuid

-- table usersync.audit_logs_2027_08 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_08 constraint audit_logs_2027_08_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_08 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_08 index
CREATE INDEX audit_logs_2027_08_action_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_08_actor_id_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_08_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_08_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_08_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_08_recorded_at_xid_idx ON usersync.audit_logs_2027_08 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_08_request_id_idx ON usersync.audit_logs_2027_08 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_08_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_08_user_id_occurred_at_idx ON usersync.audit_logs_2027_08 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_08_pkey ON usersync.audit_logs_2027_08 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_09
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_09 column action
text; not null

-- table usersync.audit_logs_2027_09 column actor_id
text

-- table usersync.audit_logs_2027_09 column actor_type
text; not null

-- table usersync.audit_logs_2027_09 column changes
jsonb

-- table usersync.audit_logs_2027_09 column db_role
text

-- table usersync.audit_logs_2027_09 column entity_id
text

-- table usersync.audit_logs_2027_09 column entity_type
text

-- table usersync.audit_logs_2027_09 column id
uuid; not null

-- table usersync.audit_logs_2027_09 column ip
inet

-- table usersync.audit_logs_2027_09 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_09 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_09 column on_behalf_of
text

-- table usersync.audit_logs_2027_09 column outcome
text; not null

-- table usersync.audit_logs_2027_09 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_09 column request_id
text

-- table usersync.audit_logs_2027_09 column seq
bigint

-- table usersync.audit_logs_2027_09 column severity
text

-- table usersync.audit_logs_2027_09 column source
text; not null

-- table usersync.audit_logs_2027_09 column tenant_id
text

-- table usersync.audit_logs_2027_09 column traceparent
text

-- table usersync.audit_logs_2027_09 column user_agent
text

-- table usersync.audit_logs_2027_09 column user_id
uuid

-- table usersync.audit_logs_2027_09 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_09 constraint audit_logs_2027_09_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_09 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_09 index
CREATE INDEX audit_logs_2027_09_action_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_09_actor_id_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_09_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_09_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_09_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_09_recorded_at_xid_idx ON usersync.audit_logs_2027_09 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_09_request_id_idx ON usersync.audit_logs_2027_09 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_09_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_09_user_id_occurred_at_idx ON usersync.audit_logs_2027_09 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_09_pkey ON usersync.audit_logs_2027_09 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_10
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_10 column action
text; not null

-- table usersync.audit_logs_2027_10 column actor_id
text

-- table usersync.audit_logs_2027_10 column actor_type
text; not null

-- table usersync.audit_logs_2027_10 column changes
jsonb

-- table usersync.audit_logs_2027_10 column db_role
text

-- table usersync.audit_logs_2027_10 column entity_id
text

-- table usersync.audit_logs_2027_10 column entity_type
text

-- table usersync.audit_logs_2027_10 column id
uuid; not null

-- table usersync.audit_logs_2027_10 column ip
inet

-- table usersync.audit_logs_2027_10 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_10 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_10 column on_behalf_of
text

-- table usersync.audit_logs_2027_10 column outcome
text; not null

-- table usersync.audit_logs_2027_10 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_10 column request_id
text

-- table usersync.audit_logs_2027_10 column seq
bigint

-- table usersync.audit_logs_2027_10 column severity
text

-- table usersync.audit_logs_2027_10 column source
text; not null

-- table usersync.audit_logs_2027_10 column tenant_id
text

-- table usersync.audit_logs_2027_10 column traceparent
text

-- table usersync.audit_logs_2027_10 column user_agent
text

-- table usersync.audit_logs_2027_10 column user_id
uuid

-- table usersync.audit_logs_2027_10 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_10 constraint audit_logs_2027_10_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_10 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_10 index
CREATE INDEX audit_logs_2027_10_action_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_10_actor_id_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_10_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_10_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_10_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_10_recorded_at_xid_idx ON usersync.audit_logs_2027_10 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_10_request_id_idx ON usersync.audit_logs_2027_10 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_10_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_10_user_id_occurred_at_idx ON usersync.audit_logs_2027_10 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_10_pkey ON usersync.audit_logs_2027_10 USING btree (id, occurred_at)

-- table usersync.audit_logs_2027_11
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_2027_11 column action
text; not null

-- table usersync.audit_logs_2027_11 column actor_id
text

-- table usersync.audit_logs_2027_11 column actor_type
text; not null

-- table usersync.audit_logs_2027_11 column changes
jsonb

-- table usersync.audit_logs_2027_11 column db_role
text

-- table usersync.audit_logs_2027_11 column entity_id
text

-- table usersync.audit_logs_2027_11 column entity_type
text

-- table usersync.audit_logs_2027_11 column id
uuid; not null

-- table usersync.audit_logs_2027_11 column ip
inet

-- table usersync.audit_logs_2027_11 column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_2027_11 column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_2027_11 column on_behalf_of
text

-- table usersync.audit_logs_2027_11 column outcome
text; not null

-- table usersync.audit_logs_2027_11 column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_2027_11 column request_id
text

-- table usersync.audit_logs_2027_11 column seq
bigint

-- table usersync.audit_logs_2027_11 column severity
text

-- table usersync.audit_logs_2027_11 column source
text; not null

-- table usersync.audit_logs_2027_11 column tenant_id
text

-- table usersync.audit_logs_2027_11 column traceparent
text

-- table usersync.audit_logs_2027_11 column user_agent
text

-- table usersync.audit_logs_2027_11 column user_id
uuid

-- table usersync.audit_logs_2027_11 column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_2027_11 constraint audit_logs_2027_11_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_2027_11 constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_2027_11 index
CREATE INDEX audit_logs_2027_11_action_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (action, occurred_at)
CREATE INDEX audit_logs_2027_11_actor_id_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_2027_11_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_2027_11_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (occurred_at)
CREATE INDEX audit_logs_2027_11_on_behalf_of_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_2027_11_recorded_at_xid_idx ON usersync.audit_logs_2027_11 USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_2027_11_request_id_idx ON usersync.audit_logs_2027_11 USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_2027_11_tenant_id_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_2027_11_user_id_occurred_at_idx ON usersync.audit_logs_2027_11 USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_2027_11_pkey ON usersync.audit_logs_2027_11 USING btree (id, occurred_at)

-- table usersync.audit_logs_default
kind r; owner postgres; rls f f; 

-- table usersync.audit_logs_default column action
text; not null

-- table usersync.audit_logs_default column actor_id
text

-- table usersync.audit_logs_default column actor_type
text; not null

-- table usersync.audit_logs_default column changes
jsonb

-- table usersync.audit_logs_default column db_role
text

-- table usersync.audit_logs_default column entity_id
text

-- table usersync.audit_logs_default column entity_type
text

-- table usersync.audit_logs_default column id
uuid; not null

-- table usersync.audit_logs_default column ip
inet

-- table usersync.audit_logs_default column metadata
jsonb; not null; default '{}'::jsonb

-- table usersync.audit_logs_default column occurred_at
timestamp with time zone; not null

-- table usersync.audit_logs_default column on_behalf_of
text

-- table usersync.audit_logs_default column outcome
text; not null

-- table usersync.audit_logs_default column recorded_at
timestamp with time zone; not null; default now()

-- table usersync.audit_logs_default column request_id
text

-- table usersync.audit_logs_default column seq
bigint

-- table usersync.audit_logs_default column severity
text

-- table usersync.audit_logs_default column source
text; not null

-- table usersync.audit_logs_default column tenant_id
text

-- table usersync.audit_logs_default column traceparent
text

-- table usersync.audit_logs_default column user_agent
text

-- table usersync.audit_logs_default column user_id
uuid

-- table usersync.audit_logs_default column xid
bigint; default ((pg_current_xact_id())::text)::bigint

-- table usersync.audit_logs_default constraint audit_logs_default_pkey
PRIMARY KEY (id, occurred_at)

-- table usersync.audit_logs_default constraint audit_logs_user_id_fkey
FOREIGN KEY (user_id) REFERENCES public.users(id) ON UPDATE SET NULL ON DELETE SET NULL

-- table usersync.audit_logs_default index
CREATE INDEX audit_logs_default_action_occurred_at_idx ON usersync.audit_logs_default USING btree (action, occurred_at)
CREATE INDEX audit_logs_default_actor_id_occurred_at_idx ON usersync.audit_logs_default USING btree (actor_id, occurred_at)
CREATE INDEX audit_logs_default_entity_type_entity_id_occurred_at_idx ON usersync.audit_logs_default USING btree (entity_type, entity_id, occurred_at)
CREATE INDEX audit_logs_default_occurred_at_idx ON usersync.audit_logs_default USING btree (occurred_at)
CREATE INDEX audit_logs_default_on_behalf_of_occurred_at_idx ON usersync.audit_logs_default USING btree (on_behalf_of, occurred_at) WHERE (on_behalf_of IS NOT NULL)
CREATE INDEX audit_logs_default_recorded_at_xid_idx ON usersync.audit_logs_default USING brin (recorded_at, xid) WITH (pages_per_range='64', autosummarize='on')
CREATE INDEX audit_logs_default_request_id_idx ON usersync.audit_logs_default USING btree (request_id) WHERE (request_id IS NOT NULL)
CREATE INDEX audit_logs_default_tenant_id_occurred_at_idx ON usersync.audit_logs_default USING btree (tenant_id, occurred_at) WHERE (tenant_id IS NOT NULL)
CREATE INDEX audit_logs_default_user_id_occurred_at_idx ON usersync.audit_logs_default USING btree (user_id, occurred_at) WHERE (user_id IS NOT NULL)
CREATE UNIQUE INDEX audit_logs_default_pkey ON usersync.audit_logs_default USING btree (id, occurred_at)

-- table usersync.audit_logs_guard
kind v; owner postgres; rls f f; usersync: depends on the audit log, so that DROP TABLE without CASCADE fails. Holds nothing.

-- table usersync.audit_rejects
kind r; owner postgres; rls f f; Events that could not be stored because of what they contain, each with the reason. To store an event, correct it and pass it to public.record_audit_events again.

-- table usersync.audit_rejects column event
jsonb; not null

-- table usersync.audit_rejects column fingerprint
bytea

-- table usersync.audit_rejects column reason
text; not null

-- table usersync.audit_rejects column reject_id
bigint; not null; a

-- table usersync.audit_rejects column rejected_at
timestamp with time zone; not null; default now()

-- table usersync.audit_rejects column sqlstate
text; not null

-- table usersync.audit_rejects constraint audit_rejects_fingerprint_key
UNIQUE (fingerprint)

-- table usersync.audit_rejects constraint audit_rejects_pkey
PRIMARY KEY (reject_id)

-- table usersync.audit_rejects index
CREATE UNIQUE INDEX audit_rejects_fingerprint_key ON usersync.audit_rejects USING btree (fingerprint)
CREATE UNIQUE INDEX audit_rejects_pkey ON usersync.audit_rejects USING btree (reject_id)

-- table usersync.audit_rejects_reject_id_seq
kind S; owner postgres; rls f f; 

-- table usersync.audit_rejects_reject_id_seq column is_called
boolean; not null

-- table usersync.audit_rejects_reject_id_seq column last_value
bigint; not null

-- table usersync.audit_rejects_reject_id_seq column log_cnt
bigint; not null

-- table usersync.auth_users
kind r; owner postgres; rls f f; A copy of the auth server's users, as its admin API returned them; seen_at is the time of the last answer.

-- table usersync.auth_users column aud
text

-- table usersync.auth_users column banned_until
timestamp with time zone

-- table usersync.auth_users column confirmed_at
timestamp with time zone

-- table usersync.auth_users column created_at
timestamp with time zone

-- table usersync.auth_users column deleted_at
timestamp with time zone

-- table usersync.auth_users column email
text

-- table usersync.auth_users column email_confirmed_at
timestamp with time zone

-- table usersync.auth_users column id
uuid; not null

-- table usersync.auth_users column invited_at
timestamp with time zone

-- table usersync.auth_users column is_anonymous
boolean; not null; default false

-- table usersync.auth_users column last_sign_in_at
timestamp with time zone

-- table usersync.auth_users column phone
text

-- table usersync.auth_users column phone_confirmed_at
timestamp with time zone

-- table usersync.auth_users column raw_app_meta_data
jsonb

-- table usersync.auth_users column raw_user_meta_data
jsonb

-- table usersync.auth_users column role
text

-- table usersync.auth_users column seen_at
timestamp with time zone; not null; default now()

-- table usersync.auth_users column updated_at
timestamp with time zone

-- table usersync.auth_users constraint auth_users_pkey
PRIMARY KEY (id)

-- table usersync.auth_users index
CREATE UNIQUE INDEX auth_users_pkey ON usersync.auth_users USING btree (id)

-- table usersync.backfill_events
kind r; owner postgres; rls f f; The next existing users of a backfill, and those whose events are parked. The events are made from them when they are read.

-- table usersync.backfill_events column number
bigint; not null

-- table usersync.backfill_events column subscription
text; not null

-- table usersync.backfill_events column user_id
uuid; not null

-- table usersync.backfill_events constraint backfill_events_pkey
PRIMARY KEY (subscription, number)

-- table usersync.backfill_events constraint backfill_events_subscription_fkey
FOREIGN KEY (subscription) REFERENCES usersync.backfills(subscription) ON DELETE CASCADE

-- table usersync.backfill_events index
CREATE UNIQUE INDEX backfill_events_pkey ON usersync.backfill_events USING btree (subscription, number)

-- table usersync.backfills
kind r; owner postgres; rls f f; Subscriptions that get the existing users as events, and how far the users are listed.

-- table usersync.backfills column feed_snapshot
pg_snapshot; not null

-- table usersync.backfills column is_complete
boolean; not null; default false

-- table usersync.backfills column last_number
bigint; not null; default '-1000000000000'::bigint

-- table usersync.backfills column listed_until
uuid

-- table usersync.backfills column ready_xid
xid8

-- table usersync.backfills column requested_at
timestamp with time zone; not null; default now()

-- table usersync.backfills column starts_after
bigint; not null

-- table usersync.backfills column subscription
text; not null

-- table usersync.backfills constraint backfills_pkey
PRIMARY KEY (subscription)

-- table usersync.backfills constraint backfills_subscription_fkey
FOREIGN KEY (subscription) REFERENCES usersync.subscriptions(name) ON DELETE CASCADE

-- table usersync.backfills index
CREATE UNIQUE INDEX backfills_pkey ON usersync.backfills USING btree (subscription)

-- table usersync.delivery_attempts
kind r; owner postgres; rls f f; The attempts of subscriptions: of each event the last 20. Workers delete old ones.

-- table usersync.delivery_attempts column answer
text

-- table usersync.delivery_attempts column attempt
integer; not null

-- table usersync.delivery_attempts column attempt_id
bigint; not null; a

-- table usersync.delivery_attempts column attempted_at
timestamp with time zone; not null

-- table usersync.delivery_attempts column error
text

-- table usersync.delivery_attempts column event_id
uuid; not null

-- table usersync.delivery_attempts column number
bigint; not null

-- table usersync.delivery_attempts column seconds
real

-- table usersync.delivery_attempts column subscription
text; not null

-- table usersync.delivery_attempts constraint delivery_attempts_pkey
PRIMARY KEY (subscription, attempt_id)

-- table usersync.delivery_attempts index
CREATE INDEX delivery_attempts_event ON usersync.delivery_attempts USING btree (subscription, event_id)
CREATE UNIQUE INDEX delivery_attempts_pkey ON usersync.delivery_attempts USING btree (subscription, attempt_id)

-- table usersync.delivery_attempts_attempt_id_seq
kind S; owner postgres; rls f f; 

-- table usersync.delivery_attempts_attempt_id_seq column is_called
boolean; not null

-- table usersync.delivery_attempts_attempt_id_seq column last_value
bigint; not null

-- table usersync.delivery_attempts_attempt_id_seq column log_cnt
bigint; not null

-- table usersync.event_numbers
kind r; owner postgres; rls f f; The number of each event in the feed. An event gets it after its transaction is seen to be committed.

-- table usersync.event_numbers column event_id
uuid; not null

-- table usersync.event_numbers column number
bigint; not null

-- table usersync.event_numbers column occurred_at
timestamp with time zone; not null

-- table usersync.event_numbers column stored_id
text; In an audit log that is a table of the application: the id as the log has it, if it is another text than event_id.

-- table usersync.event_numbers constraint event_numbers_event_id_occurred_at_key
UNIQUE (event_id, occurred_at)

-- table usersync.event_numbers constraint event_numbers_pkey
PRIMARY KEY (number)

-- table usersync.event_numbers index
CREATE UNIQUE INDEX event_numbers_event_id_occurred_at_key ON usersync.event_numbers USING btree (event_id, occurred_at)
CREATE UNIQUE INDEX event_numbers_pkey ON usersync.event_numbers USING btree (number)

-- table usersync.feed
kind r; owner postgres; rls f f; How far the events of the audit log are numbered. Empty until the feed is read.

-- table usersync.feed column cluster
text; not null

-- table usersync.feed column first_seq
bigint; not null

-- table usersync.feed column first_snapshot
pg_snapshot; not null

-- table usersync.feed column last_number
bigint; not null; default 0

-- table usersync.feed column only_row
boolean; not null; default true

-- table usersync.feed column snapshot
pg_snapshot; not null

-- table usersync.feed column unsummarized
bigint; not null; default 0

-- table usersync.feed constraint feed_only_row_check
CHECK (only_row)

-- table usersync.feed constraint feed_pkey
PRIMARY KEY (only_row)

-- table usersync.feed index
CREATE UNIQUE INDEX feed_pkey ON usersync.feed USING btree (only_row)

-- table usersync.functions
kind r; owner postgres; rls f f; The installed functions: the checksum of the text, and the fingerprint of the function in the catalog.

-- table usersync.functions column checksum
text; not null

-- table usersync.functions column fingerprint
text; not null

-- table usersync.functions column installed_at
timestamp with time zone; not null; default now()

-- table usersync.functions column signature
text; not null

-- table usersync.functions constraint functions_pkey
PRIMARY KEY (signature)

-- table usersync.functions index
CREATE UNIQUE INDEX functions_pkey ON usersync.functions USING btree (signature)

-- table usersync.missed_statements_seq
kind S; owner postgres; rls f f; How many INSERTs into the audit log of the application could not be noted. usersync.number_events then looks for events without a number.

-- table usersync.missed_statements_seq column is_called
boolean; not null

-- table usersync.missed_statements_seq column last_value
bigint; not null

-- table usersync.missed_statements_seq column log_cnt
bigint; not null

-- table usersync.noted_events
kind r; owner postgres; rls f f; New events of an audit log that is a table of the application, until they have a number in the feed. Written by the trigger note_events on the log.

-- table usersync.noted_events column event_id
uuid; not null

-- table usersync.noted_events column occurred_at
timestamp with time zone; not null

-- table usersync.noted_events column seq
bigint; not null; default nextval('usersync.audit_log_seq'::regclass)

-- table usersync.noted_events column stored_id
text

-- table usersync.noted_events column xid
xid8; not null; default pg_current_xact_id()

-- table usersync.noted_events constraint noted_events_pkey
PRIMARY KEY (xid, seq)

-- table usersync.noted_events index
CREATE UNIQUE INDEX noted_events_pkey ON usersync.noted_events USING btree (xid, seq)

-- table usersync.noted_log
kind r; owner postgres; rls f f; The audit log of the application that has the trigger note_events, and how far it is searched for events without a number.

-- table usersync.noted_log column block
bigint; not null; default 0

-- table usersync.noted_log column is_complete
boolean; not null; default false

-- table usersync.noted_log column is_searched
boolean; not null; default true

-- table usersync.noted_log column log
text; not null

-- table usersync.noted_log column missed
bigint; not null; default 0

-- table usersync.noted_log column only_row
boolean; not null; default true

-- table usersync.noted_log column part
text

-- table usersync.noted_log column search_after
xid8

-- table usersync.noted_log constraint noted_log_only_row_check
CHECK (only_row)

-- table usersync.noted_log constraint noted_log_pkey
PRIMARY KEY (only_row)

-- table usersync.noted_log index
CREATE UNIQUE INDEX noted_log_pkey ON usersync.noted_log USING btree (only_row)

-- table usersync.parked_events
kind r; owner postgres; rls f f; Events that a subscription could not handle, and later events of their entities: waiting for the next attempt, or dead.

-- table usersync.parked_events column attempts
integer; not null; default 0

-- table usersync.parked_events column entity_id
text

-- table usersync.parked_events column entity_type
text

-- table usersync.parked_events column error
text

-- table usersync.parked_events column event_id
uuid; not null

-- table usersync.parked_events column last_tried_at
timestamp with time zone

-- table usersync.parked_events column next_try_at
timestamp with time zone

-- table usersync.parked_events column number
bigint; not null

-- table usersync.parked_events column parked_at
timestamp with time zone; not null; default now()

-- table usersync.parked_events column shard
integer; not null

-- table usersync.parked_events column state
text; not null; default 'waiting'::text

-- table usersync.parked_events column subscription
text; not null

-- table usersync.parked_events constraint parked_events_pkey
PRIMARY KEY (subscription, number)

-- table usersync.parked_events constraint parked_events_state_check
CHECK ((state = ANY (ARRAY['waiting'::text, 'dead'::text])))

-- table usersync.parked_events constraint parked_events_subscription_fkey
FOREIGN KEY (subscription) REFERENCES usersync.subscriptions(name) ON DELETE CASCADE

-- table usersync.parked_events index
CREATE INDEX parked_events_due ON usersync.parked_events USING btree (subscription, next_try_at) WHERE (next_try_at IS NOT NULL)
CREATE INDEX parked_events_entity ON usersync.parked_events USING btree (subscription, entity_id, number) WHERE (state = 'waiting'::text)
CREATE UNIQUE INDEX parked_events_pkey ON usersync.parked_events USING btree (subscription, number)

-- table usersync.pause
kind r; owner postgres; rls f f; One row while usersync is paused: since when, and by whom. Meanwhile the triggers only record users in usersync.sync_failures, with the SQLSTATE US004.

-- table usersync.pause column only_row
boolean; not null; default true

-- table usersync.pause column paused_at
timestamp with time zone; not null; default now()

-- table usersync.pause column paused_by
text; not null

-- table usersync.pause constraint pause_only_row_check
CHECK (only_row)

-- table usersync.pause constraint pause_pkey
PRIMARY KEY (only_row)

-- table usersync.pause index
CREATE UNIQUE INDEX pause_pkey ON usersync.pause USING btree (only_row)

-- table usersync.periodic_tasks
kind r; owner postgres; rls f f; When the periodic tasks of "usersync worker" are due. The worker that moves the time runs the task.

-- table usersync.periodic_tasks column last_error
text

-- table usersync.periodic_tasks column next_at
timestamp with time zone; not null

-- table usersync.periodic_tasks column task
text; not null

-- table usersync.periodic_tasks constraint periodic_tasks_pkey
PRIMARY KEY (task)

-- table usersync.periodic_tasks index
CREATE UNIQUE INDEX periodic_tasks_pkey ON usersync.periodic_tasks USING btree (task)

-- table usersync.schema_version
kind r; owner postgres; rls f f; The applied migrations with their checksums.

-- table usersync.schema_version column applied_at
timestamp with time zone; not null; default now()

-- table usersync.schema_version column checksum
text; not null

-- table usersync.schema_version column name
text; not null

-- table usersync.schema_version column version
integer; not null

-- table usersync.schema_version constraint schema_version_pkey
PRIMARY KEY (version)

-- table usersync.schema_version index
CREATE UNIQUE INDEX schema_version_pkey ON usersync.schema_version USING btree (version)

-- table usersync.settings
kind r; owner postgres; rls f f; The settings with which the functions in this database were rendered.

-- table usersync.settings column applied_at
timestamp with time zone; not null; default now()

-- table usersync.settings column installation
uuid; not null; default (md5(((((pg_control_system()).system_identifier)::text || '/'::text) || (current_database())::text)))::uuid; The id of this installation. A spool of audit events stores it, and delivers to no other installation.

-- table usersync.settings column only_row
boolean; not null; default true

-- table usersync.settings column settings
jsonb; not null

-- table usersync.settings constraint settings_only_row_check
CHECK (only_row)

-- table usersync.settings constraint settings_pkey
PRIMARY KEY (only_row)

-- table usersync.settings index
CREATE UNIQUE INDEX settings_pkey ON usersync.settings USING btree (only_row)

-- table usersync.subscription_shards
kind r; owner postgres; rls f f; How far each subscription is, in 16 shards by entity, and which worker has the lease of each shard.

-- table usersync.subscription_shards column "position"
bigint; not null

-- table usersync.subscription_shards column careful_until
bigint; not null; default 0

-- table usersync.subscription_shards column fence
bigint; not null; default 0

-- table usersync.subscription_shards column leased_until
timestamp with time zone

-- table usersync.subscription_shards column shard
integer; not null

-- table usersync.subscription_shards column subscription
text; not null

-- table usersync.subscription_shards column trying
bigint

-- table usersync.subscription_shards column worker
uuid

-- table usersync.subscription_shards constraint subscription_shards_pkey
PRIMARY KEY (subscription, shard)

-- table usersync.subscription_shards constraint subscription_shards_shard_check
CHECK (((shard >= 0) AND (shard <= 15)))

-- table usersync.subscription_shards constraint subscription_shards_subscription_fkey
FOREIGN KEY (subscription) REFERENCES usersync.subscriptions(name) ON DELETE CASCADE

-- table usersync.subscription_shards index
CREATE UNIQUE INDEX subscription_shards_pkey ON usersync.subscription_shards USING btree (subscription, shard)

-- table usersync.subscriptions
kind r; owner postgres; rls f f; Who wants events of the audit log: Python handlers, and other kinds. "usersync subscriptions" manages them.

-- table usersync.subscriptions column actions
text[]; not null

-- table usersync.subscriptions column config
jsonb; not null; default '{}'::jsonb

-- table usersync.subscriptions column created_at
timestamp with time zone; not null; default now()

-- table usersync.subscriptions column created_by
text; not null; default SESSION_USER

-- table usersync.subscriptions column home_address
text; The address of its database, without a login: the project of Supabase, or host, port and database.

-- table usersync.subscriptions column home_cluster
text; The cluster of its database: the system identifier, and the oid of the database.

-- table usersync.subscriptions column kind
text; not null

-- table usersync.subscriptions column name
text; not null

-- table usersync.subscriptions column reason
text

-- table usersync.subscriptions column state
text; not null; default 'active'::text

-- table usersync.subscriptions column state_since
timestamp with time zone; not null; default now()

-- table usersync.subscriptions column wanted
jsonb; not null; default '{}'::jsonb

-- table usersync.subscriptions constraint subscriptions_actions_check
CHECK ((cardinality(actions) > 0))

-- table usersync.subscriptions constraint subscriptions_pkey
PRIMARY KEY (name)

-- table usersync.subscriptions constraint subscriptions_state_check
CHECK ((state = ANY (ARRAY['active'::text, 'paused'::text, 'held'::text])))

-- table usersync.subscriptions index
CREATE UNIQUE INDEX subscriptions_pkey ON usersync.subscriptions USING btree (name)

-- table usersync.sync_failures
kind r; owner postgres; rls f f; The failures table: users without a row (failed) or with an incomplete row (degraded), deleted users whose row was not removed, and events of users that were not stored; each with the reason. A later success deletes the failure. The DETAIL of an error is not kept, because it contains e-mail addresses.

-- table usersync.sync_failures column attempts
integer; not null; default 1

-- table usersync.sync_failures column column_name
text

-- table usersync.sync_failures column constraint_name
text

-- table usersync.sync_failures column event
jsonb; The event that could not be stored in the audit log, if the kind is event. "usersync retry" and "usersync sync" store it.

-- table usersync.sync_failures column failure_id
bigint; not null; a

-- table usersync.sync_failures column first_failed_at
timestamp with time zone; not null; default now()

-- table usersync.sync_failures column kind
text; not null; default 'row'::text; What failed: row (the row is missing or incomplete), removal (the row of a deleted user was not removed as on_delete or on_soft_delete says), event (an event of the user was not stored).

-- table usersync.sync_failures column last_failed_at
timestamp with time zone; not null; default now()

-- table usersync.sync_failures column message
text; not null

-- table usersync.sync_failures column next_try_at
timestamp with time zone; No run retries the user before this time; null: the next run does. "usersync retry" ignores it.

-- table usersync.sync_failures column outcome
text; not null

-- table usersync.sync_failures column raised_in
text; The function that raised the error, if a function did: usually that of a trigger of the application.

-- table usersync.sync_failures column sqlstate
text; not null

-- table usersync.sync_failures column user_id
uuid; not null

-- table usersync.sync_failures constraint sync_failures_kind_check
CHECK ((kind = ANY (ARRAY['row'::text, 'removal'::text, 'event'::text])))

-- table usersync.sync_failures constraint sync_failures_outcome_check
CHECK ((outcome = ANY (ARRAY['degraded'::text, 'failed'::text])))

-- table usersync.sync_failures constraint sync_failures_pkey
PRIMARY KEY (failure_id)

-- table usersync.sync_failures index
CREATE INDEX sync_failures_user ON usersync.sync_failures USING btree (user_id)
CREATE UNIQUE INDEX sync_failures_pkey ON usersync.sync_failures USING btree (failure_id)
CREATE UNIQUE INDEX sync_failures_row ON usersync.sync_failures USING btree (user_id) WHERE (kind <> 'event'::text)

-- table usersync.sync_failures_failure_id_seq
kind S; owner postgres; rls f f; 

-- table usersync.sync_failures_failure_id_seq column is_called
boolean; not null

-- table usersync.sync_failures_failure_id_seq column last_value
bigint; not null

-- table usersync.sync_failures_failure_id_seq column log_cnt
bigint; not null

-- table usersync.sync_runs
kind r; owner postgres; rls f f; Runs of "usersync sync": a row for each range of ids, with its progress (next_id) and what was found.

-- table usersync.sync_runs column degraded
bigint; not null; default 0

-- table usersync.sync_runs column deleted_upstream
bigint; not null; default 0

-- table usersync.sync_runs column examined
bigint; not null; default 0

-- table usersync.sync_runs column failed
bigint; not null; default 0

-- table usersync.sync_runs column last_id
uuid; not null

-- table usersync.sync_runs column missing
bigint; not null; default 0

-- table usersync.sync_runs column next_id
uuid

-- table usersync.sync_runs column orphaned
bigint; not null; default 0

-- table usersync.sync_runs column page_size
integer; not null

-- table usersync.sync_runs column part
integer; not null

-- table usersync.sync_runs column part_count
integer; not null

-- table usersync.sync_runs column run_id
uuid; not null

-- table usersync.sync_runs column stale
bigint; not null; default 0

-- table usersync.sync_runs column started_at
timestamp with time zone; not null; default now()

-- table usersync.sync_runs column started_by
text; not null; default current_setting('application_name'::text)

-- table usersync.sync_runs column state
text; not null; default 'running'::text

-- table usersync.sync_runs column updated_at
timestamp with time zone; not null; default now()

-- table usersync.sync_runs constraint sync_runs_page_size_check
CHECK ((page_size > 0))

-- table usersync.sync_runs constraint sync_runs_pkey
PRIMARY KEY (run_id, part)

-- table usersync.sync_runs constraint sync_runs_state_check
CHECK ((state = ANY (ARRAY['running'::text, 'interrupted'::text, 'finished'::text])))

-- table usersync.sync_runs index
CREATE UNIQUE INDEX sync_runs_pkey ON usersync.sync_runs USING btree (run_id, part)

-- table usersync.user_event_requests
kind r; owner postgres; rls f f; What requests events of users in the audit log: the settings ([audit] user_events), and callers of usersync.request_user_events. While the table is empty, usersync records none.

-- table usersync.user_event_requests column wanted_at
timestamp with time zone; not null; default now()

-- table usersync.user_event_requests column wanted_by
text; not null

-- table usersync.user_event_requests column with_values
boolean; not null; default false

-- table usersync.user_event_requests constraint user_event_requests_pkey
PRIMARY KEY (wanted_by)

-- table usersync.user_event_requests index
CREATE UNIQUE INDEX user_event_requests_pkey ON usersync.user_event_requests USING btree (wanted_by)

-- table usersync.workers
kind r; owner postgres; rls f f; The running processes of "usersync worker", and the subscriptions that each serves.

-- table usersync.workers column alive_until
timestamp with time zone; not null

-- table usersync.workers column host
text; not null

-- table usersync.workers column in_flight
jsonb; By subscription: the events that the worker had started, without a stored result, when it last renewed its leases.

-- table usersync.workers column pid
integer; not null

-- table usersync.workers column started_at
timestamp with time zone; not null; default now()

-- table usersync.workers column subscriptions
text[]; not null

-- table usersync.workers column worker
uuid; not null

-- table usersync.workers constraint workers_pkey
PRIMARY KEY (worker)

-- table usersync.workers index
CREATE UNIQUE INDEX workers_pkey ON usersync.workers USING btree (worker)

-- trigger keep_all_audit_logs on public.audit_logs
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON public.audit_logs FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2026_11
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2026_12
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_01
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_02
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_03
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_03 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_04
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_04 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_05
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_05 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_06
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_06 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_07
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_07 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_08
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_08 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_09
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_09 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_10
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_10 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_2027_11
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_2027_11 FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_all_audit_logs on usersync.audit_logs_default
CREATE TRIGGER keep_all_audit_logs BEFORE TRUNCATE ON usersync.audit_logs_default FOR EACH STATEMENT EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on public.audit_logs
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON public.audit_logs FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2026_11
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2026_11 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2026_12
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2026_12 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_01
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_01 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_02
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_02 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_03
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_03 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_04
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_04 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_05
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_05 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_06
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_06 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_07
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_07 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_08
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_08 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_09
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_09 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_10
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_10 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_2027_11
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_2027_11 FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_audit_logs on usersync.audit_logs_default
CREATE TRIGGER keep_audit_logs BEFORE DELETE OR UPDATE ON usersync.audit_logs_default FOR EACH ROW EXECUTE FUNCTION usersync.keep_audit_logs(); enabled O

-- trigger keep_description on usersync.functions
CREATE TRIGGER keep_description BEFORE INSERT ON usersync.functions FOR EACH ROW EXECUTE FUNCTION usersync.keep_description(); enabled R

-- trigger keep_description on usersync.schema_version
CREATE TRIGGER keep_description BEFORE INSERT ON usersync.schema_version FOR EACH ROW EXECUTE FUNCTION usersync.keep_description(); enabled R

-- trigger keep_description on usersync.settings
CREATE TRIGGER keep_description BEFORE INSERT ON usersync.settings FOR EACH ROW EXECUTE FUNCTION usersync.keep_description(); enabled R

-- trigger on_auth_user_created on auth.users
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users REFERENCING NEW TABLE AS new_users FOR EACH ROW EXECUTE FUNCTION usersync.handle_new_user(); enabled O

-- trigger on_auth_user_deleted on auth.users
CREATE TRIGGER on_auth_user_deleted AFTER DELETE ON auth.users REFERENCING OLD TABLE AS old_users FOR EACH ROW EXECUTE FUNCTION usersync.handle_deleted_user(); enabled O

-- trigger on_auth_user_updated on auth.users
CREATE TRIGGER on_auth_user_updated AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION usersync.handle_updated_user(); enabled O
