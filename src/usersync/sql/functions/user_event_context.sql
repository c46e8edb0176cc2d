-- The actor, the tenant and the request of an event that usersync records in this session. During a sign-up, the
-- database role is the auth server's. The functions of tracked tables contain these statements, which a call would slow down.
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
    -- Who acts, for which tenant, in which request: from the application's settings, otherwise from the header of a service
    -- key, otherwise from the Data API's claims, otherwise the database role.
    role_name := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    if role_name <> 'service_role' and concat(
        current_setting('usersync.actor_id', true), current_setting('usersync.actor_type', true),
        current_setting('usersync.on_behalf_of', true), current_setting('usersync.tenant_id', true),
        current_setting('usersync.request_id', true), current_setting('usersync.ip', true),
        current_setting('usersync.user_agent', true), current_setting('request.jwt.claims', true)
    ) = '' then
        actor_id := role_name;
        actor_type := 'system';
        metadata := '{"actor_source": "role"}';
    else
        if role_name = 'service_role' then
            passed := usersync.context_of_request();
        end if;
        if current_setting('request.jwt.claims', true) <> '' then
            begin
                claims := current_setting('request.jwt.claims', true)::jsonb;
            exception when others then
                claims := null;  -- Any session can set this to any text.
            end;
        end if;
        actor_source := 'setting';
        actor_id := left(nullif(current_setting('usersync.actor_id', true), ''), 200);
        actor_type := nullif(current_setting('usersync.actor_type', true), '');
        on_behalf_of := left(nullif(current_setting('usersync.on_behalf_of', true), ''), 200);
        tenant_id := left(coalesce(
            nullif(current_setting('usersync.tenant_id', true), ''),
            nullif(passed ->> 'tenant_id', ''),
            nullif(claims #>> '@tenant_claim', '')
        ), 200);
        if actor_id is null and actor_type is null and passed is not null then
            actor_id := left(nullif(passed ->> 'actor_id', ''), 200);
            actor_type := nullif(passed ->> 'actor_type', '');
            on_behalf_of := left(nullif(passed ->> 'on_behalf_of', ''), 200);
            actor_source := 'header';
        end if;
        if actor_id is not null or actor_type is not null then
            if actor_type is null or actor_type not in ('user', 'service', 'system', 'anonymous') then
                actor_type := 'user';
            end if;
        else
            actor_source := 'jwt';
            actor_id := left(coalesce(nullif(claims ->> 'sub', ''), claims ->> 'role'), 200);
            -- With impersonation (RFC 8693), "act" names who really acts.
            if claims #>> '{act,sub}' <> '' then
                on_behalf_of := left(nullif(claims ->> 'sub', ''), 200);
                actor_id := left(claims #>> '{act,sub}', 200);
            end if;
            actor_type := case
                when claims #>> '{act,sub}' <> '' then 'user'
                when claims ->> 'role' = 'service_role' then 'service'
                when nullif(claims ->> 'sub', '') is not null then 'user'
                when claims ->> 'role' = 'anon' then 'anonymous'
                else 'service'
            end;
            if actor_id is null then
                actor_source := 'role';
                actor_id := role_name;
                actor_type := 'system';
            end if;
        end if;
        metadata := jsonb_build_object('actor_source', actor_source);
        request_id := left(coalesce(
            nullif(current_setting('usersync.request_id', true), ''), nullif(passed ->> 'request_id', '')
        ), 200);
        user_agent := left(nullif(current_setting('usersync.user_agent', true), ''), 2000);
        traceparent := left(nullif(passed ->> 'traceparent', ''), 200);
        given := nullif(current_setting('usersync.ip', true), '');
        if given is not null then
            begin
                ip := given::inet;
            exception when others then
                metadata := metadata || jsonb_build_object('ip', left(given, 200));
            end;
        end if;
    end if;
    if role_name <> session_user then
        metadata := metadata || jsonb_build_object('role', role_name);
    end if;
end;
$usersync$;
comment on function usersync.user_event_context() is
    'usersync: the actor, the tenant and the request of an event that usersync records.';
