-- Raises an error if there is no audit log.
create or replace function usersync.require_audit_log() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if usersync.audit_log() is null then
        raise exception 'there is no audit log in this database'
            using errcode = 'US301', hint = 'To create it, run: usersync audit enable';
    end if;
end;
$usersync$;
comment on function usersync.require_audit_log() is 'usersync: raises an error if there is no audit log.';
