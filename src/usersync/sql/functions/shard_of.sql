-- The shard of an event, 0 to 15. Events of one entity have the same; events without an entity have no order, and are
-- spread by their id. A cryptographic hash, because PostgreSQL's own may differ after an upgrade, and then positions
-- would mean other events.
create or replace function usersync.shard_of(entity_type text, entity_id text, event_id uuid) returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return '@shard';
end;
$usersync$;
comment on function usersync.shard_of(text, text, uuid) is
    'usersync: the shard of an event, by its entity.';
