-- The failures by outcome and SQLSTATE, the oldest failure, the last run, the pause, and whether the database is
-- read-only.
create or replace function usersync.failure_status() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
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
$usersync$;
comment on function usersync.failure_status() is
    'usersync: the number of sync failures, the oldest one, and the result of the last run.';
