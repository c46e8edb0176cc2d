-- Looks at rows that were just written, notes in the ledger those that are not what they should be, and returns
-- their users. What was written stays, whether or not this can be noted.
create or replace function usersync.note_unlike_users(ids uuid[], applied_deletions boolean) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    alike record;
    unlike uuid[] := '{}'::uuid[];
begin
    for alike in
        select array_agg(found.user_id) as ids, found.sqlstate, found.column_names, found.message
        from usersync.unlike_users(note_unlike_users.ids, applied_deletions) as found
        group by found.sqlstate, found.column_names, found.message
    loop
        unlike := unlike || alike.ids;
        perform usersync.record_failures(alike.ids, alike.sqlstate, null, alike.column_names, alike.message, null);
    end loop;
    return unlike;
exception when others then
    raise warning 'usersync: % user(s) are not as they were written, and the ledger could not be written',
        cardinality(unlike)
        using detail = format('Users: %s. The ledger: %s %s.',
            left(array_to_string(unlike, ', '), 1000), sqlstate, sqlerrm);
    return unlike;
end;
$usersync$;
comment on function usersync.note_unlike_users(uuid[], boolean) is
    'usersync: notes which of these users have rows that differ from what was written.';
