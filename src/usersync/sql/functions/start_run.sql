-- Opens a reconciling run of one part for each range of ids, and forgets runs of three months ago.
create or replace function usersync.start_run(first_ids uuid[], last_ids uuid[], page_size integer) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    new_run uuid := gen_random_uuid();
begin
    delete from usersync.sync_runs as run where run.updated_at < now() - interval '90 days';
    insert into usersync.sync_runs (run_id, part, part_count, next_id, last_id, page_size)
    select new_run, range.part, cardinality(start_run.first_ids), range.first_id, range.last_id, start_run.page_size
    from unnest(start_run.first_ids, start_run.last_ids) with ordinality as range (first_id, last_id, part);
    return new_run;
end;
$usersync$;
comment on function usersync.start_run(uuid[], uuid[], integer) is 'usersync: opens a reconciling run.';
