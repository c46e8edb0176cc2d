-- Syncs the next page of one part of a run and stores the position in the same transaction. A second caller for the
-- same part waits and continues after the first one.
create or replace function usersync.advance_run(run_id uuid, part integer) returns usersync.sync_runs
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
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
$usersync$;
comment on function usersync.advance_run(uuid, integer) is 'usersync: syncs the next page of one part of a run.';
