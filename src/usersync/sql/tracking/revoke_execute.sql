-- Also revokes from roles by name, because default privileges may have granted to these roles by name.
do $usersync$
declare
    object regprocedure;
    grantee text;
begin
    for object in
        select oid from pg_proc
        where pronamespace = 'usersync'::regnamespace and proname in ('@functions')
    loop
        for grantee in
            select 'public'
            union all
            select quote_ident(rolname) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
        loop
            execute format('revoke all on function %s from %s', object, grantee);
        end loop;
    end loop;
end;
$usersync$;
