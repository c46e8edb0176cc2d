-- Writes the results of a batch. False if a shard has another lease or position now: then the caller rolls back, and nothing of the
-- batch is stored.
--
-- shards: each with its shard, fence, position before and new position. parked: the events that failed, and those that wait behind an
-- earlier event of their entity. tried: parked events with the result of an attempt, "done", "waiting" or "dead". A
-- "delay" is the number of seconds to the next attempt; "untried": there was no attempt after all. attempts: all attempts that were
-- made; "ago" is the number of seconds since the start of the attempt.
create or replace function usersync.finish_events(
    subscription text, shards jsonb, parked jsonb, tried jsonb, attempts jsonb
) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@command_lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    moved integer;
    numbers bigint[];
    next_ones bigint[];
begin
    update usersync.subscription_shards as shard set
        position = given.position,
        trying = null
    from jsonb_to_recordset(finish_events.shards) as given (shard integer, fence bigint, after bigint, position bigint)
    where shard.subscription = finish_events.subscription and shard.shard = given.shard and shard.fence = given.fence
        and shard.position = given.after;
    get diagnostics moved = row_count;
    if moved <> jsonb_array_length(finish_events.shards) then
        return false;
    end if;
    if parked <> '[]' then
        insert into usersync.parked_events (
            subscription, number, event_id, shard, entity_type, entity_id,
            state, attempts, next_try_at, last_tried_at, error
        )
        select
            finish_events.subscription, given.number, given.event_id,
            usersync.shard_of(given.entity_type, given.entity_id, given.event_id),
            -- Without both, it has no order.
            case when given.entity_id is not null then given.entity_type end,
            case when given.entity_type is not null then given.entity_id end,
            given.state, given.attempts, clock_timestamp() + make_interval(secs => given.delay),
            case when given.attempts > 0 then clock_timestamp() end,
            usersync.redact_message('', given.error)
        from jsonb_to_recordset(finish_events.parked) as given (
            number bigint, event_id uuid, entity_type text, entity_id text,
            state text, attempts integer, delay double precision, error text
        )
        on conflict do nothing;
    end if;
    if tried <> '[]' then
        numbers := array(
            select (given ->> 'number')::bigint from jsonb_array_elements(finish_events.tried) as given
            where given ->> 'state' <> 'waiting'
        );
        -- The next events of the entities that are free now.
        next_ones := array(
            select (
                select later.number from usersync.parked_events as later
                where later.subscription = finish_events.subscription and later.state = 'waiting'
                    and later.entity_id = ended.entity_id and later.entity_type = ended.entity_type
                    and later.number <> all(numbers)
                order by later.number limit 1
            )
            from usersync.parked_events as ended
            where ended.subscription = finish_events.subscription and ended.number = any(numbers)
        );
        update usersync.parked_events as parked set
            state = given.state,
            attempts = parked.attempts - coalesce(given.untried, false)::integer,
            next_try_at = clock_timestamp() + make_interval(secs => given.delay),
            error = coalesce(usersync.redact_message('', given.error), parked.error)
        from jsonb_to_recordset(finish_events.tried) as given (
            number bigint, state text, delay double precision, error text, untried boolean
        )
        where parked.subscription = finish_events.subscription and parked.number = given.number and given.state <> 'done';
        delete from usersync.parked_events as parked
        using jsonb_to_recordset(finish_events.tried) as given (number bigint, state text)
        where parked.subscription = finish_events.subscription and parked.number = given.number and given.state = 'done';
        update usersync.parked_events as parked set next_try_at = clock_timestamp()
        where parked.subscription = finish_events.subscription and parked.number = any(next_ones)
            and parked.next_try_at is null;
    end if;
    if attempts <> '[]' then
        insert into usersync.delivery_attempts (
            subscription, number, event_id, attempt, attempted_at, seconds, error, answer
        )
        select
            finish_events.subscription, made.number, made.event_id, made.attempt,
            clock_timestamp() - make_interval(secs => coalesce(made.ago, 0)), made.seconds,
            case when made.error is not null then usersync.redact_message('', made.error) end,
            left(made.answer, 200)
        from jsonb_to_recordset(finish_events.attempts) as made (
            number bigint, event_id uuid, attempt integer, ago double precision, seconds real, error text, answer text
        );
        if tried <> '[]' then
            delete from usersync.delivery_attempts as old
            using (
                select distinct (made ->> 'event_id')::uuid as event_id
                from jsonb_array_elements(finish_events.attempts) as made
            ) as event
            where old.subscription = finish_events.subscription and old.event_id = event.event_id
                and old.attempt_id < (
                    select min(kept.attempt_id) from (
                        select made.attempt_id from usersync.delivery_attempts as made
                        where made.subscription = finish_events.subscription and made.event_id = event.event_id
                        order by made.attempt_id desc limit 20
                    ) as kept
                );
        end if;
    end if;
    return true;
end;
$usersync$;
comment on function usersync.finish_events(text, jsonb, jsonb, jsonb, jsonb) is
    'usersync: moves the positions of a subscription''s shards, and stores the failed events and all attempts.';
