-- Says that a worker is alive, renews the leases of its shards, and takes free shards up to its fair part: those without
-- a lease, and those whose lease is over. Returns the subscriptions that it serves, each with its shards and the number of
-- shards that it should have; it gives back what is more.
--
-- handlers: the names of the subscriptions for whose events it has code. kinds: the other kinds that it can handle.
create or replace function usersync.renew_worker(
    worker uuid, host text, pid integer, handlers text[], kinds text[], lease interval
) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@command_lock_timeout'
as $usersync$
#variable_conflict use_column
<<given>>
declare
    served text[];
    name text;
    fair integer;
    owned integer;
begin
    served := array(
        select subscription.name from usersync.subscriptions as subscription
        where subscription.state = 'active' and case subscription.kind
            when 'handler' then subscription.name = any(renew_worker.handlers)
            else subscription.kind = any(renew_worker.kinds)
        end
        order by subscription.name
    );
    insert into usersync.workers as known (worker, host, pid, subscriptions, alive_until)
    values (renew_worker.worker, renew_worker.host, renew_worker.pid, served, clock_timestamp() + renew_worker.lease)
    on conflict on constraint workers_pkey do update set
        subscriptions = excluded.subscriptions, alive_until = excluded.alive_until;

    update usersync.subscription_shards as shard set worker = null, leased_until = null
    where shard.worker = renew_worker.worker and shard.subscription <> all(served);
    foreach name in array served loop
        select ceil(16.0 / greatest(count(*), 1)) into fair from usersync.workers as other
        where other.alive_until > clock_timestamp() and given.name = any(other.subscriptions);
        update usersync.subscription_shards as shard set leased_until = clock_timestamp() + renew_worker.lease
        where shard.subscription = given.name and shard.worker = renew_worker.worker;
        get diagnostics owned = row_count;
        if owned >= fair then
            continue;
        end if;
        update usersync.subscription_shards as shard set
            worker = renew_worker.worker,
            leased_until = clock_timestamp() + renew_worker.lease,
            fence = shard.fence + 1,
            -- Only code of the application can end a process.
            careful_until = case
                when shard.worker is null or subscription.kind <> 'handler' then shard.careful_until
                else shard.position + 500
            end
        from usersync.subscriptions as subscription, (
            select free.shard from usersync.subscription_shards as free
            where free.subscription = given.name and (free.worker is null or free.leased_until < clock_timestamp())
            order by free.shard limit fair - owned for update skip locked
        ) as free
        where subscription.name = given.name and shard.subscription = given.name and shard.shard = free.shard;
        if found then
            -- None is left behind, whatever was edited by hand.
            update usersync.parked_events as parked set next_try_at = clock_timestamp()
            where parked.subscription = given.name and parked.state = 'waiting' and parked.next_try_at is null
                and not exists (
                    select from usersync.parked_events as earlier
                    where earlier.subscription = parked.subscription and earlier.state = 'waiting'
                        and earlier.entity_id = parked.entity_id and earlier.entity_type = parked.entity_type
                        and earlier.number < parked.number
                );
        end if;
    end loop;
    return (
        select coalesce(jsonb_agg(to_jsonb(subscription) || jsonb_build_object(
            'fair', (
                select ceil(16.0 / greatest(count(*), 1))::integer from usersync.workers as other
                where other.alive_until > clock_timestamp() and subscription.name = any(other.subscriptions)
            ),
            'shards', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'shard', shard.shard, 'fence', shard.fence, 'position', shard.position,
                    'careful_until', shard.careful_until, 'trying', shard.trying
                ) order by shard.shard), '[]')
                from usersync.subscription_shards as shard
                where shard.subscription = subscription.name and shard.worker = renew_worker.worker
            )
        )), '[]')
        from usersync.subscriptions as subscription where subscription.name = any(served)
    );
end;
$usersync$;
comment on function usersync.renew_worker(uuid, text, integer, text[], text[], interval) is
    'usersync: says that a worker is alive, renews its leases, and takes its part of the shards.';
