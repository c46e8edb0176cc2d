-- A page of the numbered events: what usersync.feed_page() returns, as jsonb.
create or replace function usersync.read_events(after bigint, wanted jsonb, page_size integer) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return usersync.feed_page(after, wanted, page_size)::jsonb;
end;
$usersync$;
comment on function usersync.read_events(bigint, jsonb, integer) is
    'usersync: a page of the numbered events that match all filters.';
