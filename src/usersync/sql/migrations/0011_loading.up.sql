-- A dump of data (pg_dump --data-only) can be loaded where usersync is installed: the tables that describe the
-- installation keep their rows then. Only in sessions with session_replication_role = replica, which loading requires,
-- so that apply, which writes these tables, is not concerned.

create or replace function usersync.keep_description() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if exists (select from usersync.settings) then
        return null;
    end if;
    return new;
end;
$usersync$;
revoke all on function usersync.keep_description() from public;

create or replace trigger keep_description before insert on usersync.schema_version
    for each row execute function usersync.keep_description();
alter table usersync.schema_version enable replica trigger keep_description;
create or replace trigger keep_description before insert on usersync.functions
    for each row execute function usersync.keep_description();
alter table usersync.functions enable replica trigger keep_description;
create or replace trigger keep_description before insert on usersync.settings
    for each row execute function usersync.keep_description();
alter table usersync.settings enable replica trigger keep_description;
