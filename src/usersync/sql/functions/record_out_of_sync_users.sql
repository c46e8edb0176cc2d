-- Looks at rows that were just written, notes in the ledger those that are not what they should be, and returns
-- their users. What was written stays, whether or not this can be noted.
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
        perform usersync.record_failures(differing.ids, differing.sqlstate, null, differing.column_names, differing.message, null);
    end loop;
    return out_of_sync;
exception when others then
    raise warning 'usersync: % user(s) are not as they were written, and the ledger could not be written',
        cardinality(out_of_sync)
        using detail = format('Users: %s. The ledger: %s %s.',
            left(array_to_string(out_of_sync, ', '), 1000), sqlstate, sqlerrm);
    return out_of_sync;
end;
$usersync$;
comment on function usersync.record_out_of_sync_users(uuid[], boolean) is
    'usersync: notes which of these users have rows that differ from what was written.';
