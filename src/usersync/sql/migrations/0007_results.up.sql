-- PostgreSQL does not replace a function by one that returns other columns. Those of 0.1.0 that returned others are
-- dropped; the functions of this release are created after the migrations.

do $usersync$
declare
    old record;
begin
    for old in
        select oid::regprocedure::text as name from pg_catalog.pg_proc
        where pronamespace = to_regnamespace('usersync') and (
            proname in ('compare_at_once', 'reconcile_page') and not 'deleted_upstream' = any(proargnames)
            or proname = 'count_unseen' and 'allowed' = any(proargnames)
        )
    loop
        execute 'drop function ' || old.name;
    end loop;
end;
$usersync$;
