-- Removes a trigger from the auth server's table, which has another owner. DROP TRIGGER requires the owner. CREATE OR
-- REPLACE TRIGGER requires only the right to create triggers, and DROP FUNCTION ... CASCADE drops the triggers of a
-- function. So the trigger first gets a temporary function of usersync. Called during installation and rollback, by the
-- role that runs them.
create or replace function usersync.remove_trigger(trigger_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $usersync$
begin
    create function usersync.nothing() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
        as 'begin return null; end';
    execute format(
        'create or replace trigger %I before insert on %s for each statement execute function usersync.nothing()',
        trigger_name, '@source_table'
    );
    drop function usersync.nothing() cascade;
end;
$usersync$;
comment on function usersync.remove_trigger(text) is
    'usersync: removes a trigger from the auth server''s table without being its owner.';
