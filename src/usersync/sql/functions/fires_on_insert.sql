-- Whether a trigger of the application fires for an INSERT into this table or partition, or a check of it waits for
-- COMMIT. VOLATILE for the reason in read_catalog.
create or replace function usersync.fires_on_insert(relation oid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
begin
    return exists (
        select from pg_trigger where tgrelid = relation and (tgdeferrable or not tgisinternal and tgtype & 4 <> 0)
    );
end;
$usersync$;
comment on function usersync.fires_on_insert(oid) is
    'usersync: whether a trigger of the application fires for an INSERT into a table.';
