-- The actor, the tenant and the request of an event that usersync records in this session. During a sign-up, the
-- database role is the auth server's.
create or replace function usersync.user_event_context(
    out actor_id text, out actor_type text, out on_behalf_of text, out tenant_id text, out request_id text, out ip inet,
    out user_agent text, out traceparent text, out metadata jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    role_name text;
    actor_source text;
    given text;
    claims jsonb;
    passed jsonb;
begin
    '@session_context'
end;
$usersync$;
comment on function usersync.user_event_context() is
    'usersync: the actor, the tenant and the request of an event that usersync records.';
