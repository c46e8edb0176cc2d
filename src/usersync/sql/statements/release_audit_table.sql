-- Leaves to the application, with the audit log, the events that were put aside, if there are any: usersync's schema is to
-- go. Applying again takes both back.
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
            raise exception '%.audit_rejects exists already, so the rejected events have nowhere to stay', home
                using errcode = 'duplicate_table', hint = 'Rename it; or see: usersync audit rejects';
        end if;
        alter table usersync.audit_rejects enable row level security;
        execute format('alter table usersync.audit_rejects set schema %s', home);
    end if;
end;
$usersync$;
