-- Operations of clients that have no function of their own in "public". The Data API reaches only functions in
-- "public", and this one function contains all other operations. Python calls it too, over a connection and over HTTP.
-- Each operation can be repeated if the client got no answer.
create or replace function public.usersync(operation text, arguments jsonb default '{}') returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '@command_lock_timeout'
as $usersync$
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
            'copied', '@source_table'::regclass is not distinct from to_regclass('usersync.auth_users'));
    when 'remove_user' then
        perform usersync.refuse_read_only();
        return to_jsonb(usersync.sync_user(user_id, true));
    when 'retry_users' then
        perform usersync.refuse_while_paused();
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        perform usersync.retry_users(ids);
        return to_jsonb(cardinality(ids));
    when 'removal_policies' then
        return jsonb_build_object('on_delete', '@on_delete', 'on_soft_delete', '@on_soft_delete');
    when 'remove_users' then
        perform usersync.refuse_while_paused();
        ids := array(select id::uuid from jsonb_array_elements_text(arguments -> 'ids') as id);
        return to_jsonb(usersync.remove_deleted_users(ids, arguments ->> 'kind'));
    when 'record_removal' then
        return to_jsonb(usersync.record_admin_action(
            case arguments ->> 'kind' when 'orphaned' then 'usersync.orphans_removed' else 'usersync.deletions_applied' end,
            jsonb_strip_nulls(jsonb_build_object(
                'policy', case arguments ->> 'kind' when 'orphaned' then '@on_delete' else '@on_soft_delete' end,
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
            'users', (select count(target."@key") from "@users_table" as target where '@is_user_row'),
            'auth_users', (select count(*) from "@source_table"));
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
$usersync$;
comment on function public.usersync(text, jsonb) is
    'usersync: the client operations that have no function of their own.';
