-- Makes the partitions of this month and of those ahead, where the log is ours and they are missing; returns how
-- many. Called again and again, so never worth waiting or failing for: what has no partition goes to the
-- default one.
--
-- None is made while the default partition is large, because each makes the server read all of it under these
-- locks: 16 MB are some 40,000 events, and take a slow disk a third of a second.
--
-- All locks are taken first, and only if nobody is in the way: an attempt that fails has then written nothing
-- to the catalog. The last one, which the foreign key needs, keeps everybody from writing users until the
-- transaction ends.
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
        raise warning 'usersync: the audit log has no partitions for the months ahead: % %', sqlstate, sqlerrm
            using hint = 'Events go to the default partition meanwhile. Run: usersync doctor';
        return 0;
end;
$usersync$;
comment on function usersync.make_audit_partitions(integer) is
    'usersync: makes the audit log''s partitions for the months ahead.';
