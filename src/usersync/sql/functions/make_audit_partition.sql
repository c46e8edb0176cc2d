-- Creates the partition for a month and moves the month's rows into it from the default partition. most: the maximum
-- number of rows to move; null is no limit, for a call by hand at a quiet hour. Returns whether the partition exists
-- now. Unless most is null, the caller has the locks.
create or replace function usersync.make_audit_partition(month date, most integer default 10000) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $usersync$
declare
    name text := 'audit_logs_' || to_char(month, 'YYYY_MM');
    first_moment timestamptz := month;
    end_moment timestamptz := month + interval '1 month';
    stored_columns text := (
        select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
        where attrelid = '@audit_table'::regclass and attnum > 0 and not attisdropped and attgenerated = ''
    );
begin
    if to_regclass('usersync.' || name) is not null then
        return true;
    end if;
    if (
        select count(*) > most from (
            select from usersync.audit_logs_default as stored
            where stored.occurred_at >= first_moment and stored.occurred_at < end_moment limit most + 1
        ) as few
    ) then
        return false;
    end if;
    if most is null then
        lock table usersync.audit_logs_default in access exclusive mode;
    end if;
    -- CREATE TABLE and ATTACH PARTITION, because CREATE TABLE ... PARTITION OF would lock the audit log against writes.
    execute format(
        'create table usersync.%I (like %s including defaults including constraints including generated)',
        name, '@audit_table');
    perform set_config('usersync.maintaining', 'audit', true);
    execute format(
        'with moved as (delete from usersync.audit_logs_default where occurred_at >= $1 and occurred_at < $2 returning *) '
        'insert into usersync.%1$I (%2$s) select %2$s from moved', name, stored_columns) using first_moment, end_moment;
    perform set_config('usersync.maintaining', '', true);
    execute format(
        'alter table %s attach partition usersync.%I for values from (%L) to (%L)',
        '@audit_table', name, first_moment, end_moment);
    perform usersync.guard_audit_partitions();
    return true;
exception when others then
    if most is null then
        raise;
    end if;
    -- The default partition stores the rows, and the next call tries again.
    if sqlstate <> '55P03' then
        raise warning 'usersync: the audit log''s partition for % could not be created: % %', month, sqlstate, sqlerrm
            using hint = 'Its events are stored in the default partition. Run: usersync doctor';
    end if;
    return false;
end;
$usersync$;
comment on function usersync.make_audit_partition(date, integer) is
    'usersync: creates the audit log''s partition for a month.';
