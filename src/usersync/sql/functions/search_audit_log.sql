-- The events that match all filters, at most "page_size" (null: all), and whether there are more. A page also ends when
-- it is large, because a value of type jsonb has a size limit.
create or replace function usersync.search_audit_log(
    wanted jsonb, after jsonb, oldest_first boolean, page_size integer
) returns jsonb
language plpgsql stable
set search_path = pg_catalog, "@pinned"
as $usersync$
declare
    stored jsonb;
    events jsonb[] := '{}'::jsonb[];
    room integer := 64 * 1024 * 1024;
    more boolean := false;
begin
    for stored in execute format('select to_jsonb(page) from (%s limit %s) as page',
        usersync.audit_query(wanted, after, oldest_first), coalesce((page_size + 1)::text, 'all'))
    loop
        more := coalesce(cardinality(events) = page_size, false) or (room < 0 and page_size is not null);
        exit when more;
        events := array_append(events, stored);
        room := room - pg_column_size(stored);
    end loop;
    return jsonb_build_object('events', to_jsonb(events), 'more', more);
end;
$usersync$;
comment on function usersync.search_audit_log(jsonb, jsonb, boolean, integer) is
    'usersync: a page of the events that match all filters.';
