-- When a uuid of version 7 was made, which is when its event happened; null for any other. It completes the
-- key of an event that comes without its time, the same way each time it comes.
create or replace function usersync.time_of_id(id uuid) returns timestamptz
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $usersync$
select to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
where substr(id::text, 15, 1) = '7' and left(id::text, 2) < 'e0'
$usersync$;
comment on function usersync.time_of_id(uuid) is 'usersync: the time in a uuid of version 7.';
