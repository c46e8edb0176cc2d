-- Compares rows that were just written with what the mapping asks for, records the users whose rows differ, and returns
-- them. The written rows stay, even if the failures table cannot be written.
create or replace function usersync.record_out_of_sync_users(ids uuid[], applied_deletions boolean) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
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
$usersync$;
comment on function usersync.record_out_of_sync_users(uuid[], boolean) is
    'usersync: records which of these users have rows that differ from what was written.';
