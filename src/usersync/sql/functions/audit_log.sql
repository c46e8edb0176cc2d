-- The audit log: the table that usersync created, or the application's table that [audit.columns] maps. Null if there
-- is no audit log, even if another table of the application has its name.
create or replace function usersync.audit_log() returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $usersync$
    select '@audit_log'
$usersync$;
comment on function usersync.audit_log() is 'usersync: the audit log, or null if there is none.';
