-- Whether an event that comes without its time is in the log already: the log's key has the time in it, and so
-- does not tell. Where two send it at once, the second waits until the first is through; it looks with eyes of
-- its own, and not with those of the statement that asks. Above READ COMMITTED it has those of its transaction,
-- and does not see what was committed since: there an event comes with its time, or may come twice.
create or replace function usersync.is_recorded(event_id uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if event_id is null or usersync.time_of_id(event_id) is not null then
        return false;
    end if;
    -- One lock of 64, or a large batch would fill the lock table.
    perform pg_advisory_xact_lock(hashtext('usersync.is_recorded'), get_byte(uuid_send(event_id), 0) / 4);
    return exists (
        select from (select is_recorded.event_id as id) as given join "@audit_table" as stored on '@is_audit_id'
    );
end;
$usersync$;
comment on function usersync.is_recorded(uuid) is
    'usersync: whether an event without a time is in the audit log.';
