-- Creates the missing partitions of usersync's audit log for this month and the months ahead. Returns how many were
-- created. Runs often, so it neither waits nor fails: events without a partition go to the default partition.
--
-- Creates none while the default partition is larger than 16 MB (about 40,000 events). PostgreSQL reads all of it under
-- these locks for each new partition, which takes a third of a second on a slow disk.
--
-- Takes all locks first and gives up if one is not free, so that a failed attempt writes nothing to the catalog. The
-- last lock, which the foreign key needs, blocks writes to the users table until the transaction ends.
create or replace function usersync.make_audit_partitions(ahead integer default 2) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $usersync$
declare
    months date[] := array(
        select each_month
        from generate_series(date_trunc('month', now()), now() + make_interval(months => ahead), interval '1 month')
            as each_month
        where to_regclass('usersync.audit_logs_' || to_char(each_month, 'YYYY_MM')) is null
    );
    month date;
    made integer := 0;
begin
    if cardinality(months) = 0 or not exists (
        select from pg_inherits
        where inhrelid = to_regclass('usersync.audit_logs_default') and inhparent = usersync.audit_log()
    ) then
        return 0;
    end if;
    if pg_relation_size('usersync.audit_logs_default') > 16 * 1024 * 1024 then
        return 0;
    end if;
    lock table only "@audit_table" in share update exclusive mode nowait;
    lock table usersync.audit_logs_default in access exclusive mode nowait;
    lock table "@users_table" in share row exclusive mode nowait;
    foreach month in array months loop
        made := made + usersync.make_audit_partition(month)::integer;
    end loop;
    return made;
exception
    when lock_not_available then
        return 0;
    when others then
        raise warning 'usersync: the audit log''s partitions for the months ahead could not be created: % %', sqlstate, sqlerrm
            using hint = 'Events are stored in the default partition. Run: usersync doctor';
        return 0;
end;
$usersync$;
comment on function usersync.make_audit_partitions(integer) is
    'usersync: creates the audit log''s partitions for the months ahead.';
