-- Stores a rejected event. An event with an id is stored once, even if it is sent several times.
create or replace function usersync.reject_audit_event(event jsonb, code text, reason text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $usersync$
insert into usersync.audit_rejects (event, sqlstate, reason, fingerprint)
values (
    event, code, left(reason, 500), case when event ? 'id' then sha256(convert_to(event::text, 'UTF8')) end
)
on conflict do nothing
$usersync$;
comment on function usersync.reject_audit_event(jsonb, text, text) is
    'usersync: stores an event that the audit log does not accept.';
