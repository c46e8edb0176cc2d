-- Stores a rejected event. An event with an id is stored once, even if it is sent several times. An event that usersync
-- itself made has no fingerprint, as those of the tracking triggers.
create or replace function usersync.reject_audit_event(event jsonb, is_own boolean, code text, reason text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $usersync$
insert into usersync.audit_rejects (event, sqlstate, reason, fingerprint)
values (
    event, code, left(reason, 500),
    case when event ? 'id' and not is_own then sha256(convert_to(event::text, 'UTF8')) end
)
on conflict do nothing
$usersync$;
comment on function usersync.reject_audit_event(jsonb, boolean, text, text) is
    'usersync: stores an event that the audit log does not accept.';
