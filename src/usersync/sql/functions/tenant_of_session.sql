-- The tenant of events that name none: from the application's setting, otherwise from the header of a service key,
-- otherwise from the claim of the token that [audit] tenant_claim names. Raises nothing.
create or replace function usersync.tenant_of_session() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    given text := coalesce(
        nullif(current_setting('usersync.tenant_id', true), ''), usersync.context_of_request() ->> 'tenant_id');
begin
    if given is null and '@tenant_claim' is not null then
        given := nullif(current_setting('request.jwt.claims', true), '')::jsonb #>> '@tenant_claim';
    end if;
    return left(nullif(given, ''), 200);
exception when others then
    return null;  -- Any session can set this to any text.
end;
$usersync$;
comment on function usersync.tenant_of_session() is 'usersync: the tenant of events that name none.';
