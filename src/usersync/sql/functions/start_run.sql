-- Starts a run of one part for each range of ids, and deletes runs that are older than 90 days. The caller chooses the
-- run_id, so that it can call again if it got no answer. examined: the number of compared users if nothing differs and
-- the run has nothing to do.
create or replace function usersync.start_run(
    run_id uuid, first_ids uuid[], last_ids uuid[], page_size integer, examined bigint default null
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
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
$usersync$;
comment on function usersync.start_run(uuid, uuid[], uuid[], integer, bigint) is 'usersync: starts a run.';
