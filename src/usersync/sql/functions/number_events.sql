-- Gives numbers to the events that have become visible since the last call, in the order of their insertion, and
-- returns how many; null if another session does it just now. The first call starts the feed: it numbers nothing.
--
-- What is new is the difference of two snapshots: visible now, and not visible in the snapshot of the last call. A
-- transaction that commits late gets its numbers late, is never skipped, and delays no reader. Sequence numbers and times
-- alone cannot do this, because they are taken before the commit.
--
-- Call it in a transaction of its own: until it ends, nobody else can number events.
create or replace function usersync.number_events() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
-- The plan must not depend on the statistics of a log that grows: the index on xid is small, and always right.
set enable_seqscan = off
-- Before PostgreSQL 18, that makes a scan of one row look expensive, so that each call would be compiled.
set jit = off
set plan_cache_mode = force_generic_plan
set lock_timeout = '10ms'
as $usersync$
declare
    this text;
    state record;
    first_xid bigint;
    open_xids bigint[];
    numbered bigint;
begin
    -- "user" and "feed".
    if not pg_try_advisory_xact_lock(1970496882, 1717921124) then
        return null;
    end if;
    perform usersync.require_audit_log();
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'events can only be numbered in a transaction with the isolation level READ COMMITTED'
            using errcode = 'invalid_transaction_state';
    end if;
    if not '@is_own_log' then
        return usersync.number_noted_events();
    end if;
    this := split_part(usersync.database_position(), ' ', 2);
    select * into state from usersync.feed;
    if not found then
        insert into usersync.feed (snapshot, cluster, first_snapshot, first_seq)
        values (pg_current_snapshot(), this, pg_current_snapshot(), nextval('usersync.audit_log_seq'));
        return 0;
    end if;

    if state.cluster <> this then
        -- Transaction ids of another cluster mean nothing here. The snapshot of the start and the ids in the log are
        -- from the same cluster, so they tell which of the restored events are older than the feed.
        with added as (
            insert into usersync.event_numbers (number, event_id, occurred_at)
            select
                state.last_number + row_number() over (order by stored.seq, stored.recorded_at, stored.id),
                stored.id,
                stored.occurred_at
            from "@audit_table" as stored
            where (
                    stored.seq >= state.first_seq
                    or not pg_visible_in_snapshot(stored.xid::text::xid8, state.first_snapshot)
                )
                and not exists (
                    select from usersync.event_numbers as known
                    where known.event_id = stored.id and known.occurred_at = stored.occurred_at
                )
            returning number
        )
        update usersync.feed set
            snapshot = pg_current_snapshot(),
            cluster = this,
            last_number = greatest(state.last_number, (select max(number) from added))
        returning (select count(*) from added) into numbered;
        return numbered;
    end if;

    first_xid := pg_snapshot_xmax(state.snapshot)::text::bigint;
    open_xids := array(select xid::text::bigint from pg_snapshot_xip(state.snapshot) as xid);
    -- The index has no entries for new blocks until autovacuum has seen them, so each call would read all of them. A
    -- lock that somebody else holds is not worth waiting for: the next call tries again.
    if state.unsummarized > 10000 then
        begin
            perform brin_summarize_new_values(inhrelid) from pg_inherits where inhparent in (
                select indexrelid from pg_index join pg_class on pg_class.oid = indexrelid
                where indrelid = to_regclass('@audit_table') and relam = (select oid from pg_am where amname = 'brin')
            );
            update usersync.feed set unsummarized = 0;
        exception when lock_not_available then
            null;
        end;
    end if;
    -- One statement, so the events and the snapshot that is stored are of the same moment.
    with added as (
        insert into usersync.event_numbers (number, event_id, occurred_at)
        select
            state.last_number + row_number() over (order by stored.seq, stored.recorded_at, stored.id),
            stored.id,
            stored.occurred_at
        from "@audit_table" as stored
        where stored.xid >= first_xid or stored.xid = any(open_xids)
        on conflict (event_id, occurred_at) do nothing
        returning number
    )
    update usersync.feed set
        snapshot = pg_current_snapshot(),
        last_number = greatest(state.last_number, (select max(number) from added)),
        unsummarized = unsummarized + (select count(*) from added)
    -- Without new events nothing is written: the older snapshot finds the same events.
    where exists (select from added)
    returning (select count(*) from added) into numbered;
    return coalesce(numbered, 0);
end;
$usersync$;
comment on function usersync.number_events() is
    'usersync: numbers the events that have become visible since the last call.';
