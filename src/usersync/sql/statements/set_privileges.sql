-- Revokes every privilege on usersync's objects from all other roles, by name, and grants back the few that are needed.
-- Supabase's default privileges grant on new objects in "public" to roles by name, so revoking from PUBLIC alone would
-- leave those grants, and the reverse.
do $usersync$
declare
    object text;
    grantees text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(rolname), ', '))
        from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    );
    public_names name[] := array['@public_functions'];
    -- Any role can write such a comment on its own function.
    owners oid[] := array[
        quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync')];
    own_functions text;
    called_functions text;
begin
    execute format('revoke all on schema usersync from %s', grantees);
    execute format('revoke all on all tables in schema usersync from %s', grantees);
    -- One statement for all functions, because each writes the rows of its functions again.
    select string_agg(oid::regprocedure::text, ', '),
        string_agg(oid::regprocedure::text, ', ') filter (where pronamespace = 'public'::regnamespace)
    into own_functions, called_functions
    from pg_proc
    where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
        and (pronamespace = 'usersync'::regnamespace or proname = any(public_names));
    if own_functions is not null then
        execute format('revoke all on function %s from %s', own_functions, grantees);
    end if;
    if to_regrole('service_role') is not null and called_functions is not null then
        execute format('grant execute on function %s to service_role', called_functions);
    end if;
    if to_regrole('authenticated') is not null then
        -- They run with the caller's rights: the policies of the log decide what the caller sees.
        foreach object in array array['@reader_functions']::text[] loop
            execute format('grant execute on function %s to authenticated', object);
        end loop;
    end if;
end;
$usersync$;
