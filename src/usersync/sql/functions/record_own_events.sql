-- Stores events that usersync itself made: what it did on request, and again what a trigger could not store. Only these
-- events and those of the tracking triggers have the source "trigger" or "sync": public.record_audit_events sets it to
-- "app" for every caller.
create or replace function usersync.record_own_events(events jsonb, out stored bigint, out rejected bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    select batch.stored, batch.rejected into stored, rejected
    from usersync.complete_events(record_own_events.events) as complete,
        lateral usersync.store_event_batch(complete.events, true, false) as batch;
end;
$usersync$;
comment on function usersync.record_own_events(jsonb) is
    'usersync: stores events that usersync itself made.';
