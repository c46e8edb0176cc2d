-- The numbered events after a position that match all filters, in the order of their numbers, and the position for the
-- next call, as the text of a JSON document: making a jsonb of each event and of the page takes longer than reading the events,
-- and a worker needs none. Only reads, so it works on a standby too. Looks at "page_size" numbers at most, so that a filter that
-- matches few events does not read the whole log; "more" says whether there are further numbers. Without a position, it
-- returns no events, but the position of the newest one. A page also ends when it is large, because a value of type
-- jsonb, and the memory of its reader, have a size limit.
--
-- A position beyond the newest number is of another feed: the database was restored, lost events in a failover, or has a new
-- installation. Without an error, its reader would skip the events up to that number. A standby may be behind.
create or replace function usersync.feed_page(after bigint, wanted jsonb, page_size integer) returns text
language plpgsql stable
set search_path = pg_catalog, "@pinned"
set enable_seqscan = off
-- Before PostgreSQL 18, that makes a scan of one row look expensive, so that each call would be compiled.
set jit = off
as $usersync$
declare
    templates constant jsonb := '@audit_templates'::jsonb;
    newest constant bigint := coalesce((select max(number) from usersync.event_numbers), 0);
    -- Not the newest number, which prune removes with its event.
    given constant bigint := coalesce((select feed.last_number from usersync.feed), 0);
    last_number bigint;
    earliest timestamptz;
    latest timestamptz;
    this bigint;
    stored text;
    events text[] := '{}'::text[];
    room integer := 64 * 1024 * 1024;
begin
    perform usersync.require_audit_log();
    if not '@is_own_log' and not exists (
        select from usersync.noted_log as noted where noted.log = '@audit_table' and noted.is_complete
    ) then
        raise exception 'the audit log % is the application''s own table, and its events have no numbers yet', '@audit_table'
            using errcode = 'US101', hint = 'Call again: each call gives numbers to some of them. A worker does it, too.';
    end if;
    if after is null then
        return format('{"events": [], "position": %s, "more": false}', newest);
    end if;
    if after > greatest(newest, given) and not pg_is_in_recovery() then
        raise exception 'the position % is not of this feed: its last number is %', after, greatest(newest, given)
            using errcode = '22023', hint = 'The database was restored, lost events in a failover, or has a new '
                'installation of usersync. Compare what you have read with "usersync audit search". Then continue at 0, '
                'or at the position that a call without a position returns.';
    end if;
    select max(number), min(occurred_at), max(occurred_at) into last_number, earliest, latest from (
        select number, occurred_at from usersync.event_numbers where number > after order by number limit page_size
    ) as looked_at;
    for this, stored in execute format(
        'select page.number, %s from ('
        'select numbered.number, %s event.* from usersync.event_numbers as numbered cross join lateral ('
        '%s where %s) as event '
        'where numbered.number > $1 and numbered.number <= $2 order by numbered.number) as page',
        -- In a table of the application, an id may be any text.
        case when '@is_own_log' then 'to_json(page)' else 'to_jsonb(page) || jsonb_build_object(''id'', page.event_id)' end,
        case when not '@is_own_log' then 'numbered.event_id,' end,
        format(templates ->> 'numbered', earliest, latest), usersync.audit_conditions(wanted))
        using after, last_number
    loop
        events := array_append(events, stored);
        room := room - octet_length(stored);
        if room < 0 then
            last_number := this;
            exit;
        end if;
    end loop;
    return format(
        '{"events": [%s], "position": %s, "more": %s}',
        array_to_string(events, ','), coalesce(last_number, after), coalesce(last_number < newest, false)::text);
end;
$usersync$;
comment on function usersync.feed_page(bigint, jsonb, integer) is
    'usersync: a page of the numbered events that match all filters, as the text of a JSON document.';
