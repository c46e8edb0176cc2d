-- Lets tests drop, truncate and create tables as they like: removes the audit log's foreign key to the users table and
-- the view that protects the log from DROP TABLE. Only in a database that usersync.testing has made.
do $release$
declare
    log regclass := case when to_regprocedure('usersync.audit_log()') is not null then usersync.audit_log() end;
    reference name;
begin
    if coalesce(obj_description(to_regnamespace('auth'), 'pg_namespace'), '') not like 'usersync: for tests. %' then
        raise exception 'this database was not made by usersync.testing, so the audit log keeps its protection'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    drop view if exists usersync.audit_logs_guard;
    for reference in
        select conname from pg_constraint where conrelid = log and contype = 'f' and conparentid = 0
    loop
        execute format('alter table %s drop constraint %I', log, reference);
    end loop;
end;
$release$;
