-- Records in the audit log, if there is one, an action of usersync requested for the whole database (a
-- removal, a prune): the action, the time, the counts, the role, and the person if details contain "by". Returns
-- whether it is recorded. Raises nothing, because the action is done already.
create or replace function usersync.record_admin_action(action text, details jsonb) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    role_name text := coalesce(
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role', session_user);
    count_stored bigint;
begin
    if usersync.audit_log() is null then
        return false;
    end if;
    select stored into count_stored from usersync.record_own_events(jsonb_build_array(jsonb_build_object(
        'action', record_admin_action.action,
        'actor_type', 'system',
        'actor_id', coalesce(record_admin_action.details ->> 'by', role_name),
        'entity_type', 'table',
        'entity_id', case
            -- Of one table: that of track and untrack.
            when details ->> 'table' is not null then details ->> 'table'
            when action in ('usersync.log_pruned', 'usersync.rejects_retried', 'usersync.hold_added', 'usersync.hold_removed')
                then usersync.audit_log()::text
            else to_regclass('@users_table')::text
        end,
        'metadata', record_admin_action.details - 'by' || jsonb_build_object(
            'application_name', current_setting('application_name')),
        'db_role', role_name,
        'source', 'sync'
    )));
    return count_stored > 0;
exception when others or assert_failure then
    raise warning 'usersync: % was not recorded in the audit log: % %', record_admin_action.action, sqlstate, sqlerrm;
    return false;
end;
$usersync$;
comment on function usersync.record_admin_action(text, jsonb) is
    'usersync: records in the audit log an action of usersync that was requested.';
