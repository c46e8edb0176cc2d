-- The audit context that a back end with a service key sends with a request to the Data API, in the header
-- usersync-context: a JSON object with actor_id, actor_type, on_behalf_of, request_id, tenant_id and traceparent. Null
-- if there is none.
--
-- Believed of service_role alone, because every client can send headers. The role is the one that PostgREST has set
-- from the verified token; a function that runs with its owner's rights does not change it. Raises nothing.
create or replace function usersync.context_of_request() returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    context jsonb;
begin
    if current_setting('role') <> 'service_role' then
        return null;
    end if;
    begin
        context := (nullif(current_setting('request.headers', true), '')::jsonb ->> 'usersync-context')::jsonb;
    exception when others then
        return null;  -- Not JSON, or a text that jsonb cannot hold.
    end;
    return case when jsonb_typeof(context) = 'object' then context end;
end;
$usersync$;
comment on function usersync.context_of_request() is
    'usersync: the audit context that a caller with a service key sends in a header.';
