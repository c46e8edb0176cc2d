-- Revokes every privilege on usersync's objects from all other roles, by name, and grants back the few that are needed.
-- Supabase's default privileges grant on new objects in "public" to roles by name, so revoking from PUBLIC alone would
-- leave those grants, and the reverse.
do $usersync$
declare
    object text;
    grantee text;
    public_names name[] := array['@public_functions'];
    -- Any role can write such a comment on its own function.
    owners oid[] := array[
        quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync')];
begin
    for grantee in
        select 'public'
        union all
        select quote_ident(rolname) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    loop
        execute format('revoke all on schema usersync from %s', grantee);
        execute format('revoke all on all tables in schema usersync from %s', grantee);
        for object in
            select oid::regprocedure::text from pg_proc
            where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
                and (pronamespace = 'usersync'::regnamespace or proname = any(public_names))
        loop
            execute format('revoke all on function %s from %s', object, grantee);
        end loop;
    end loop;
    if to_regrole('service_role') is not null then
        for object in
            select oid::regprocedure::text from pg_proc
            where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
                and pronamespace = 'public'::regnamespace and proname = any(public_names)
        loop
            execute format('grant execute on function %s to service_role', object);
        end loop;
    end if;
    if to_regrole('authenticated') is not null then
        -- They run with the caller's rights: the policies of the log decide what the caller sees.
        foreach object in array array['@reader_functions']::text[] loop
            execute format('grant execute on function %s to authenticated', object);
        end loop;
    end if;
end;
$usersync$;
