-- The event with this number: in the feed, or in a backfill (numbers below zero). Null if the event no longer exists.
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
    -- If the event no longer exists, the variable has the next one.
    return case when (event ->> 'number')::bigint = event_of_subscription.number then event end;
end;
$usersync$;
comment on function usersync.event_of_subscription(text, bigint) is
    'usersync: the event with this number, for a subscription.';
