-- Removes the triggers and functions of usersync, returns what it replaced, and removes or leaves the audit log.
do $removal$
declare
    object text;
    log regclass := to_regclass('@audit_table');
    is_own boolean := coalesce(obj_description(log, 'pg_class'), '') like 'The audit log, made by usersync: %';
    has_rejects boolean := false;
    -- Any role can write such a comment on its own function.
    owners oid[] := array[
        quote_ident(current_user)::regrole, (select nspowner from pg_namespace where nspname = 'usersync')];
begin
    -- With their functions, because only the owner of the auth server's table can drop a trigger alone.
    for object in
        select oid::regprocedure::text from pg_proc
        where pronamespace = 'usersync'::regnamespace and prorettype = 'trigger'::regtype
        order by 1
    loop
        execute 'drop function if exists ' || object || ' cascade';
    end loop;
    if to_regclass('usersync.adopted') is not null then
        perform usersync.restore_adopted(null);
    end if;

    if to_regclass('usersync.audit_rejects') is not null then
        has_rejects := exists (select from usersync.audit_rejects);
    end if;
    if is_own and '@drop_audit_log' then
        execute '@drop_log';
    else
        if is_own and not has_rejects then
            execute '@drop_unused_log';
        end if;
        execute '@release_log';
    end if;

    for object in
        select oid::regprocedure::text from pg_proc
        where obj_description(oid, 'pg_proc') like 'usersync: %' and proowner = any(owners)
            and (pronamespace = 'usersync'::regnamespace
                or pronamespace = 'public'::regnamespace and proname in ('@public_functions'))
        order by 1
    loop
        execute 'drop function if exists ' || object;
    end loop;
end;
$removal$;
