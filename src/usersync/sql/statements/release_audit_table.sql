-- Leaves the audit log to the application: its partitions move out of usersync's schema, which is to go, closed to the
-- Data API as they were. So do events that were put aside, if there are any: applying again takes both back.
do $usersync$
declare
    partition regclass;
    home regnamespace := coalesce(to_regnamespace('@audit_schema'), 'public'::regnamespace);
begin
    drop view if exists usersync.audit_logs_guard;
    for partition in
        select inhrelid::regclass from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('@audit_table') and relnamespace = 'usersync'::regnamespace
    loop
        execute format('alter table %s enable row level security', partition);
        execute format('alter table %s set schema %s', partition, home);
    end loop;
    if to_regclass('usersync.audit_rejects') is null then
        return;
    end if;
    lock table usersync.audit_rejects in access exclusive mode;
    if exists (select from usersync.audit_rejects) then
        if to_regclass(format('%s.audit_rejects', home)) is not null then
            raise exception '%.audit_rejects exists already, so the rejected events have nowhere to stay', home
                using errcode = 'duplicate_table', hint = 'Rename it; or see: usersync audit rejects';
        end if;
        alter table usersync.audit_rejects enable row level security;
        execute format('alter table usersync.audit_rejects set schema %s', home);
    end if;
end;
$usersync$;
