-- Deletes attempts that are older than the given age, those beyond the newest "most" of each subscription, and those of
-- subscriptions that no longer exist. Attempts of parked events stay. Returns how many were deleted. Also deletes the
-- users of backfills whose events are done.
create or replace function usersync.prune_attempts(age interval, most integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    name text;
    oldest_kept bigint;
    deleted bigint;
    total bigint := 0;
begin
    loop
        -- The next name of a subscription, read from the index.
        select made.subscription into name from usersync.delivery_attempts as made
        where name is null or made.subscription > name order by made.subscription limit 1;
        exit when not found;
        select made.attempt_id into oldest_kept from usersync.delivery_attempts as made
        where made.subscription = name order by made.attempt_id desc offset prune_attempts.most limit 1;
        delete from usersync.delivery_attempts as made
        where made.subscription = name
            and (made.attempt_id <= oldest_kept or made.attempted_at < clock_timestamp() - prune_attempts.age)
            and not exists (
                select from usersync.parked_events as parked
                where parked.subscription = made.subscription and parked.number = made.number
            )
            or made.subscription = name and not exists (
                select from usersync.subscriptions as known where known.name = made.subscription
            );
        get diagnostics deleted = row_count;
        total := total + deleted;
    end loop;
    -- Existing users whose events are done.
    delete from usersync.backfill_events as listed
    where listed.number <= (
            select min(shard.position) from usersync.subscription_shards as shard
            where shard.subscription = listed.subscription
        )
        and not exists (
            select from usersync.parked_events as parked
            where parked.subscription = listed.subscription and parked.number = listed.number
        );
    return total;
end;
$usersync$;
comment on function usersync.prune_attempts(interval, integer) is
    'usersync: deletes old attempts of subscriptions.';
