-- The parked events that are due in the shards of a worker, at most "most". If none of them has been tried yet, at most
-- "untried": they only waited for an earlier event of their entity. Their attempts are counted here, before
-- they run: an event that ends the process is given up like any other. shards: each with its shard and fence. silence:
-- the time to the next attempt if the worker crashes, once for each attempt.
create or replace function usersync.take_parked(subscription text, shards jsonb, most integer, untried integer, silence interval) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
-- The plan must not depend on statistics: the table was empty a moment ago, and has many rows now.
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    numbers bigint[];
begin
    numbers := array(
        select parked.number from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.next_try_at <= clock_timestamp()
            and parked.shard = any(array(
                select shard.shard from usersync.subscription_shards as shard
                join jsonb_to_recordset(take_parked.shards) as given (shard integer, fence bigint)
                    on given.shard = shard.shard and given.fence = shard.fence
                where shard.subscription = take_parked.subscription
            ))
        order by parked.next_try_at, parked.number limit greatest(take_parked.most, take_parked.untried) for update skip locked
    );
    -- An event that ends the process would take an attempt from all others of the batch. That can happen once to each.
    if exists (
        select from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.number = any(numbers) and parked.attempts > 0
    ) then
        numbers := numbers[1:take_parked.most];
    end if;
    update usersync.parked_events as parked set
        attempts = parked.attempts + 1,
        last_tried_at = clock_timestamp(),
        -- If nothing is heard of this attempt.
        next_try_at = clock_timestamp() + (parked.attempts + 1) * take_parked.silence
    where parked.subscription = take_parked.subscription and parked.number = any(numbers);
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'number', parked.number, 'attempts', parked.attempts,
            'event', usersync.event_of_subscription(parked.subscription, parked.number)
        ) order by parked.number), '[]')
        from usersync.parked_events as parked
        where parked.subscription = take_parked.subscription and parked.number = any(numbers)
    );
end;
$usersync$;
comment on function usersync.take_parked(text, jsonb, integer, integer, interval) is
    'usersync: the parked events of a worker''s shards that are due.';
