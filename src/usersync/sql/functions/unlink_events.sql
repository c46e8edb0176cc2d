-- Sets the user_id of some events of a deleted user to null, as the foreign key would do for all of them at once.
-- actor_id stays. Returns how many.
create or replace function usersync.unlink_events(user_id uuid, batch integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    unlinked bigint;
begin
    if usersync.audit_log() is null or exists (
        select from "@source_table" as source
        where source."id" = unlink_events.user_id and source."deleted_at" is null
    ) then
        return 0;
    end if;
    perform set_config('usersync.maintaining', 'audit', true);
    update "@audit_table" as log set "@audit_user" = null
    from (
        select stored.ctid as place, stored.tableoid as partition
        from (select unlink_events.user_id as id) as going
        join "@audit_table" as stored on '@is_audit_user'
        limit unlink_events.batch
    ) as linked
    where log.ctid = linked.place and log.tableoid = linked.partition;
    get diagnostics unlinked = row_count;
    perform set_config('usersync.maintaining', '', true);
    return unlinked;
end;
$usersync$;
comment on function usersync.unlink_events(uuid, integer) is
    'usersync: unlinks some audit events from a deleted user.';
