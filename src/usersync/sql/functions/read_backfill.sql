-- A page of the events of existing users after a position below zero, in the form of usersync.read_events(). After the last
-- user, the position of the page is the position in the feed. If all listed users are read, it lists the next users first.
create or replace function usersync.read_backfill(subscription text, after bigint, shards integer[], page_size integer)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@command_lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    state usersync.backfills;
    upto bigint;
    ids uuid[];
begin
    select * into state from usersync.backfills as backfill where backfill.subscription = read_backfill.subscription;
    if not state.is_complete and after >= state.last_number then
        -- Only one worker lists users. The others return, and read again later.
        select * into state from usersync.backfills as backfill
        where backfill.subscription = read_backfill.subscription for update skip locked;
        if not found then
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        -- A sign-up that began before the subscription was created records no event, and may not be visible yet.
        if state.ready_xid is null then
            update usersync.backfills as backfill set ready_xid = pg_snapshot_xmax(pg_current_snapshot())
            where backfill.subscription = read_backfill.subscription;
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        if pg_snapshot_xmin(pg_current_snapshot()) < state.ready_xid then
            return jsonb_build_object('events', '[]'::jsonb, 'position', after, 'more', false);
        end if;
        if not state.is_complete and after >= state.last_number then
            ids := array(
                select source."id" from "@source_table" as source
                where state.listed_until is null or source."id" > state.listed_until
                order by source."id" limit 1000
            );
            with listed as (
                insert into usersync.backfill_events (subscription, number, user_id)
                select state.subscription, state.last_number + row_number() over (order by found.id), found.id
                from unnest(ids) as found (id)
                where not exists (
                        -- The feed has the event of this user.
                        select from "@audit_table" as stored
                        where stored.entity_type = 'user' and stored.entity_id = found.id::text
                            and stored.action = 'user.created'
                            and not pg_visible_in_snapshot(stored.xid::text::xid8, state.feed_snapshot)
                    )
                    and not exists (
                        select from usersync.sync_failures as failure
                        where failure.user_id = found.id and failure.kind = 'event'
                            and failure.event ->> 'action' = 'user.created'
                    )
                returning number
            )
            update usersync.backfills as backfill set
                listed_until = coalesce(ids[cardinality(ids)], state.listed_until),
                last_number = greatest(state.last_number, (select max(number) from listed)),
                is_complete = cardinality(ids) < 1000
            where backfill.subscription = read_backfill.subscription
            returning * into state;
        end if;
    end if;
    upto := least(after + page_size, state.last_number);
    return (
        select jsonb_build_object(
            'events', coalesce(jsonb_agg(event order by position), '[]'),
            'position', case
                when state.is_complete and upto >= state.last_number then state.starts_after
                else greatest(upto, after)
            end,
            'more', not state.is_complete or upto < state.last_number
        )
        from jsonb_array_elements(usersync.backfill_events(subscription, after, upto))
            with ordinality as page (event, position)
        where usersync.shard_of('user', event ->> 'entity_id', null) = any(shards)
    );
end;
$usersync$;
comment on function usersync.read_backfill(text, bigint, integer[], integer) is
    'usersync: a page of the events of existing users for a subscription.';
