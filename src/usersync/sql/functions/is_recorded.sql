-- Whether an event without a time is stored already. The primary key contains the time, so it does not prevent a
-- duplicate. If two sessions send the event at once, the second waits until the first has committed. The function is
-- VOLATILE, so it has a newer snapshot than the calling statement. Above READ COMMITTED it has the snapshot of the
-- transaction and does not see later commits: there an event needs its time, or may be stored twice.
create or replace function usersync.is_recorded(event_id uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if event_id is null or usersync.time_of_id(event_id) is not null then
        return false;
    end if;
    -- One of 64 locks. A lock for each event would fill the lock table.
    perform pg_advisory_xact_lock(hashtext('usersync.is_recorded'), get_byte(uuid_send(event_id), 0) / 4);
    return exists (
        select from (select is_recorded.event_id as id) as given join "@audit_table" as stored on '@is_audit_id'
    );
end;
$usersync$;
comment on function usersync.is_recorded(uuid) is 'usersync: whether an event without a time is in the audit log.';
