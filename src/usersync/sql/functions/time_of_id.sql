-- The creation time in a uuid of version 7, which is the time of its event; null for other uuids. It completes the key
-- of an event without a time, each time with the same value.
create or replace function usersync.time_of_id(id uuid) returns timestamptz
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $usersync$
select to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
where substr(id::text, 15, 1) = '7' and left(id::text, 2) < 'e0'
$usersync$;
comment on function usersync.time_of_id(uuid) is 'usersync: the time in a uuid of version 7.';
