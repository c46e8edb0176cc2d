-- Leaves the audit log to the application: its partitions move out of usersync's schema, which is to go.
do $usersync$
declare
    partition regclass;
begin
    for partition in
        select inhrelid::regclass from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('@audit_table') and relnamespace = 'usersync'::regnamespace
    loop
        execute format('alter table %s set schema %s', partition, '@audit_schema');
    end loop;
end;
$usersync$;
