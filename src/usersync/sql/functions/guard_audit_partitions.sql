-- Creates the trigger that refuses TRUNCATE on every partition. PostgreSQL copies the audit log's triggers for UPDATE
-- and DELETE to its partitions, but not the one for TRUNCATE.
create or replace function usersync.guard_audit_partitions() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    partition regclass;
begin
    for partition in
        select relid from pg_partition_tree(usersync.audit_log())
        where not exists (
            select from pg_trigger
            where tgrelid = relid and tgname = 'keep_all_audit_logs' and tgenabled in ('O', 'A') and tgtype = 34
                and tgfoid = 'usersync.keep_audit_logs()'::regprocedure and tgqual is null
        )
    loop
        execute format(
            'create or replace trigger keep_all_audit_logs before truncate on %s '
            'for each statement execute function usersync.keep_audit_logs()', partition);
    end loop;
end;
$usersync$;
comment on function usersync.guard_audit_partitions() is
    'usersync: makes the partitions of the audit log refuse TRUNCATE.';
