-- Makes the partitions of this month and the next two, where the log is ours and they are missing. Called with
-- every batch, so never worth waiting or failing for: whatever has no partition goes to the default one.
create or replace function usersync.make_audit_partitions() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
set timezone = 'UTC'
as $usersync$
declare
    month date;
    name text;
begin
    -- The table that usersync made, and not one of the application's that it writes to.
    if to_regclass('usersync.audit_logs_default') is null then
        return;
    end if;
    for month in
        select generate_series(date_trunc('month', now()), now() + interval '2 months', interval '1 month')
    loop
        name := 'audit_logs_' || to_char(month, 'YYYY_MM');
        continue when to_regclass('usersync.' || name) is not null;
        -- Somebody else is at it.
        exit when not pg_try_advisory_xact_lock(hashtext('usersync.make_audit_partitions'));
        -- Attached, and not created as a partition, which would lock the log against writes.
        execute format('create table usersync.%I (like "@audit_table" including defaults including constraints)', name);
        execute format(
            'alter table "@audit_table" attach partition usersync.%I for values from (%L) to (%L)',
            name, month::timestamptz, (month + interval '1 month')::timestamptz);
        execute format(
            'create trigger keep_all_audit_logs before truncate on usersync.%I '
            'for each statement execute function usersync.keep_audit_logs()', name);
        execute format('revoke all on table usersync.%I from public', name);
    end loop;
exception when others then
    -- Rows of that month in the default partition, or a lock: they stay there, and next time is soon.
    return;
end;
$usersync$;
comment on function usersync.make_audit_partitions() is
    'usersync: makes the audit log''s partitions for the months ahead.';
