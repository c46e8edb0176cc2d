-- Adds an id to events without one, because the id identifies an event that is sent again. Events without an id usually
-- have no time either.
create or replace function usersync.add_event_ids(events jsonb) returns jsonb
language sql volatile
set search_path = pg_catalog, pg_temp
as $usersync$
select case
    when not jsonb_path_exists(events, '$[*] ? (!exists(@.id) || @.id == null)') then events
    else (
        select jsonb_agg(
            case
                when jsonb_typeof(event) <> 'object' or event ->> 'id' is not null then event
                else jsonb_build_object('occurred_at', now()) || event || jsonb_build_object('id', gen_random_uuid())
            end
            order by position)
        from jsonb_array_elements(events) with ordinality as given (event, position)
    )
end
$usersync$;
comment on function usersync.add_event_ids(jsonb) is
    'usersync: adds an id to each event that has none.';
