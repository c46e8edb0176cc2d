-- The event with this number in the feed; below zero, that of an existing user in a backfill. Null if it no longer exists.
create or replace function usersync.event_of_subscription(subscription text, number bigint) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    event jsonb := case
        when event_of_subscription.number < 0 then usersync.backfill_events(
            event_of_subscription.subscription, event_of_subscription.number - 1, event_of_subscription.number
        ) -> 0
        else usersync.read_events(event_of_subscription.number - 1, '{}', 1) -> 'events' -> 0
    end;
begin
    -- The next event, if this one no longer exists.
    return case when (event ->> 'number')::bigint = event_of_subscription.number then event end;
end;
$usersync$;
comment on function usersync.event_of_subscription(text, bigint) is
    'usersync: the event with this number, for a subscription.';
