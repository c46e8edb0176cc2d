-- What usersync.number_events does for an audit log that is a table of the application. The trigger note_events has noted
-- the new events in usersync.noted_events. They get their numbers in the order in which they were noted, and are deleted
-- there.
--
-- First all events that the log had before its trigger get numbers, a part of the table with each call. Later the log is
-- searched in the same way for events without a number: if the trigger has failed, was disabled or is new, in a restored
-- database, and once a day. A search begins when the transactions that were open have ended.
create or replace function usersync.number_noted_events() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
-- The plan must not depend on the statistics of a table whose rows come and go: rows that are deleted, but visible to an
-- old transaction, are not read by the index on xid.
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
declare
    this text := split_part(usersync.database_position(), ' ', 2);
    state usersync.feed;
    noting usersync.noted_log;
    first_xid xid8;
    open_xids xid8[];
    misses bigint;
    numbered bigint := 0;
    added bigint;
begin
    select * into noting from usersync.noted_log as noted where noted.log = '@audit_table';
    if not found then
        raise exception 'the audit log % is the application''s own table, and has no feed yet', '@audit_table'
            using errcode = 'US101',
                hint = 'Add a subscription, or set [audit] feed = true in usersync.toml and run: usersync apply';
    end if;
    select * into state from usersync.feed;
    if not found then
        -- A snapshot before all transactions: the trigger may have noted events already.
        insert into usersync.feed (snapshot, cluster, first_snapshot, first_seq)
        values ('1:1:', this, pg_current_snapshot(), nextval('usersync.audit_log_seq'))
        returning * into state;
    end if;
    if not noting.is_complete then
        -- For a second at most: the caller has the lock for numbering.
        while not noting.is_complete and clock_timestamp() < statement_timestamp() + interval '1 second' loop
            numbered := numbered + usersync.number_missed_events(noting);
            select * into noting from usersync.noted_log;
        end loop;
        if not noting.is_complete then
            return numbered;
        end if;
        select * into state from usersync.feed;
    end if;

    if state.cluster <> this then
        -- Transaction ids of another cluster mean nothing here.
        state.snapshot := '1:1:';
        update usersync.feed set snapshot = '1:1:', cluster = this;
        update usersync.noted_log set is_searched = true, search_after = null, part = null, block = 0
        returning * into noting;
    end if;
    first_xid := pg_snapshot_xmax(state.snapshot);
    open_xids := array(select pg_snapshot_xip(state.snapshot));
    -- One statement, so the events and the snapshot that is stored are of the same moment.
    with taken as (
        delete from usersync.noted_events as noted
        where noted.xid >= first_xid or noted.xid = any(open_xids)
        returning noted.*
    ),
    new_ones as (
        -- An id that was deleted and inserted again was noted twice.
        select distinct on (taken.event_id) taken.*
        from taken
        where not exists (select from usersync.event_numbers as known where known.event_id = taken.event_id)
        order by taken.event_id, taken.seq
    ),
    added as (
        insert into usersync.event_numbers (number, event_id, occurred_at, stored_id)
        select
            state.last_number + row_number() over (order by new_ones.seq),
            new_ones.event_id,
            new_ones.occurred_at,
            new_ones.stored_id
        from new_ones
        returning number
    )
    update usersync.feed set
        snapshot = pg_current_snapshot(),
        last_number = greatest(state.last_number, (select max(number) from added))
    -- Without new events nothing is written: the older snapshot finds the same events.
    where exists (select from taken)
    returning (select count(*) from added) into added;
    numbered := numbered + coalesce(added, 0);

    select case when is_called then last_value else 0 end into misses from usersync.missed_statements_seq;
    if not exists (
        select from pg_trigger
        where tgrelid = to_regclass('@audit_table') and tgname = 'note_events' and tgenabled in ('O', 'A')
            and tgfoid = 'usersync.note_events()'::regprocedure
    ) then
        -- The search begins after the trigger is enabled again.
        if not noting.is_searched or noting.search_after is not null then
            update usersync.noted_log set is_searched = true, search_after = null, part = null, block = 0;
        end if;
    elsif noting.is_searched and noting.search_after is null or not noting.is_searched and misses <> noting.missed then
        -- The transactions whose events were missed may be open.
        update usersync.noted_log set
            is_searched = true,
            search_after = pg_snapshot_xmax(pg_current_snapshot()),
            missed = misses,
            part = null,
            block = 0;
    elsif noting.is_searched and pg_snapshot_xmin(pg_current_snapshot()) >= noting.search_after then
        numbered := numbered + usersync.number_missed_events(noting);
    end if;
    return numbered;
end;
$usersync$;
comment on function usersync.number_noted_events() is
    'usersync: numbers the new events of an audit log that is a table of the application.';
