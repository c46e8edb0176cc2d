-- Leaves the audit log to the application. Runs after leave_partitions.sql. Moves rejected events, if there are any,
-- out of usersync's schema, which is about to be dropped. The next apply moves partitions and events back.
do $usersync$
declare
    home regnamespace := coalesce(to_regnamespace('@audit_schema'), 'public'::regnamespace);
begin
    drop view if exists usersync.audit_logs_guard;
    if to_regclass('usersync.audit_rejects') is null then
        return;
    end if;
    lock table usersync.audit_rejects in access exclusive mode;
    if exists (select from usersync.audit_rejects) then
        if to_regclass(format('%s.audit_rejects', home)) is not null then
            raise exception 'the rejected events cannot be moved: the table %.audit_rejects exists already', home
                using errcode = 'duplicate_table', hint = 'Rename that table. To see the events: usersync audit rejects';
        end if;
        alter table usersync.audit_rejects enable row level security;
        execute format('alter table usersync.audit_rejects set schema %s', home);
    end if;
end;
$usersync$;
