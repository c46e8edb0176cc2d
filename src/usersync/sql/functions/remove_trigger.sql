-- Removes a trigger from the auth server's table, which is not ours. To drop a trigger takes the table's owner; to
-- replace one, only the right to create triggers; and a function goes with its triggers. So it is made a trigger of
-- a function of ours first. Called when usersync is installed and taken back, by the role that does that.
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
