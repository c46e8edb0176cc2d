-- Adds an id to events without one, so that an event that is sent again is recognized. Also adds the time, which events
-- without an id usually lack.
--
-- Moves keys that are not fields of an event to "unknown" in its metadata, and counts these events. Otherwise a misspelt
-- key would be lost silently. An event whose metadata is not an object is not changed, and is rejected later.
create or replace function usersync.complete_events(inout events jsonb, out unknown bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    fields text[] := array(
        select attname::text from pg_attribute
        where attrelid = 'usersync.audit_event'::regclass and attnum > 0 and not attisdropped
    );
    given jsonb := events;
    event jsonb;
    extra jsonb;
    metadata jsonb;
    former jsonb;
    kept jsonb[] := '{}'::jsonb[];
begin
    unknown := 0;
    -- Nearly every batch is complete, so this check must be fast.
    if not exists (
        select from jsonb_array_elements(given) as each_event
        where case jsonb_typeof(each_event)
            when 'object' then each_event - fields <> '{}' or each_event ->> 'id' is null
        end
    ) then
        return;
    end if;
    for event in select each_event from jsonb_array_elements(given) as each_event loop
        if jsonb_typeof(event) = 'object' then
            if event ->> 'id' is null then
                event := jsonb_build_object('occurred_at', now()) || event || jsonb_build_object('id', gen_random_uuid());
            end if;
            extra := event - fields;
            metadata := coalesce(nullif(event -> 'metadata', 'null'), '{}');
            if extra <> '{}' and jsonb_typeof(metadata) = 'object' then
                former := coalesce(metadata -> 'unknown', '{}');
                if jsonb_typeof(former) <> 'object' then
                    former := jsonb_build_object('unknown', former);
                end if;
                event := event - array(select jsonb_object_keys(extra))
                    || jsonb_build_object('metadata', metadata || jsonb_build_object('unknown', former || extra));
                unknown := unknown + 1;
            end if;
        end if;
        kept := kept || event;
    end loop;
    events := to_jsonb(kept);
end;
$usersync$;
comment on function usersync.complete_events(jsonb) is
    'usersync: adds missing ids, and moves unknown keys of events to their metadata.';
