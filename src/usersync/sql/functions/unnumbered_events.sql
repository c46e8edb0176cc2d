-- How many visible events have no number in the feed yet: at most 10,000, so that the answer never takes long. Readers of
-- the feed number events, so without a worker this is what subscriptions wait for.
create or replace function usersync.unnumbered_events() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
-- The plan must not depend on the statistics of a log that grows: only the indexes on xid find new events cheaply.
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $usersync$
declare
    most constant integer := 10000;
    state record;
    first_xid xid8;
    open_xids xid8[];
    found_events bigint;
begin
    select snapshot, cluster into state from usersync.feed;
    -- Transaction ids of another cluster mean nothing here: the next reader of the feed compares all events.
    if not found or usersync.audit_log() is null or state.cluster <> split_part(usersync.database_position(), ' ', 2) then
        return 0;
    end if;
    first_xid := pg_snapshot_xmax(state.snapshot);
    open_xids := array(select pg_snapshot_xip(state.snapshot));
    if '@is_own_log' then
        select count(*) into found_events
        from (
            select from "@audit_table" as stored
            where stored.xid >= first_xid::text::bigint or stored.xid = any(open_xids::text[]::bigint[])
            limit most
        ) as few;
    else
        select count(*) into found_events
        from (
            select from usersync.noted_events as noted
            where noted.xid >= first_xid or noted.xid = any(open_xids)
            limit most
        ) as few;
    end if;
    return found_events;
exception when lock_not_available then
    return 0;
end;
$usersync$;
comment on function usersync.unnumbered_events() is
    'usersync: how many events of the log have no number in the feed yet, 10,000 at most.';
