-- Gives numbers to events of the application's audit log that have none and are not noted: those in the next 256 blocks
-- (2 MB) of the table or its partitions. Returns how many. Only usersync.number_noted_events calls it, under its lock.
create or replace function usersync.number_missed_events(noting usersync.noted_log) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_nestloop = on
as $usersync$
declare
    templates constant jsonb := '@audit_templates'::jsonb;
    budget bigint := 256;
    this_part text := noting.part;
    first_block bigint := noting.block;
    end_block bigint;
    size bigint;
    ids uuid[];
    texts text[];
    times timestamptz[];
    last bigint;
    added bigint;
    numbered bigint := 0;
begin
    loop
        -- The log, or its partitions in the order of their names.
        select leaf.name into this_part
        from (
            select relid::regclass::text collate "C" from pg_partition_tree('@audit_table') where isleaf
            union all
            select pg_class.oid::regclass::text collate "C" from pg_class
            where pg_class.oid = to_regclass('@audit_table') and relkind = 'r' and not relispartition
        ) as leaf (name)
        where this_part is null or leaf.name > this_part or leaf.name = this_part and first_block >= 0
        order by leaf.name limit 1;
        exit when this_part is null or budget <= 0;
        if this_part is distinct from noting.part then
            first_block := 0;
        end if;
        size := pg_relation_size(this_part::regclass) / current_setting('block_size')::bigint;
        end_block := least(first_block + budget, size);
        if first_block < size then
            -- Each row is looked up in the index of the numbers, however many there are.
            execute 'select array_agg(found.event_id), array_agg(found.stored_id), array_agg(found.occurred_at) '
                'from (select ' || format(templates ->> 'noted_id') || ' as event_id, '
                || format(templates ->> 'noted_text') || ' as stored_id, '
                || format(templates ->> 'noted_time') || ' as occurred_at '
                'from only ' || this_part || ' as stored where ' || format(templates ->> 'has_id')
                || ' and stored.ctid >= $1 and stored.ctid < $2) as found '
                'where not exists (select from usersync.event_numbers as known where known.event_id = found.event_id)'
                into ids, texts, times
                using format('(%s,0)', first_block)::tid, format('(%s,0)', end_block)::tid;
            if ids is not null then
                perform set_config('enable_hashjoin', 'on', true), set_config('enable_nestloop', 'off', true);
                select feed.last_number into last from usersync.feed;
                execute 'with added as ('
                    'insert into usersync.event_numbers (number, event_id, stored_id, occurred_at) '
                    'select $1 + row_number() over (order by missed.occurred_at, missed.event_id), '
                    'missed.event_id, missed.stored_id, missed.occurred_at '
                    'from unnest($2, $3, $4) as missed (event_id, stored_id, occurred_at) '
                    'where not exists (select from usersync.noted_events as noted where noted.event_id = missed.event_id) '
                    'returning number'
                    ') update usersync.feed set last_number = greatest(last_number, (select max(number) from added)) '
                    'returning (select count(*) from added)'
                    into added using last, ids, texts, times;
                numbered := numbered + added;
                perform set_config('enable_hashjoin', 'off', true), set_config('enable_nestloop', 'on', true);
            end if;
        end if;
        budget := budget - (end_block - first_block) - 1;
        first_block := case when end_block < size then end_block else -1 end;
        noting.part := this_part;
    end loop;
    if this_part is not null then
        update usersync.noted_log set part = noting.part, block = first_block;
        return numbered;
    end if;
    update usersync.noted_log set is_complete = true, is_searched = false, search_after = null, part = null, block = 0;
    if not noting.is_complete then
        -- This snapshot is older than all transactions, because events noted meanwhile have no number yet. Existing
        -- subscriptions belonged to another log. They start after the events that this log already had.
        update usersync.feed set snapshot = '1:1:';
        update usersync.subscription_shards set
            position = (select feed.last_number from usersync.feed),
            fence = fence + 1, worker = null, leased_until = null, trying = null
        where position >= 0;
    end if;
    return numbered;
end;
$usersync$;
comment on function usersync.number_missed_events(usersync.noted_log) is
    'usersync: numbers events of the application''s audit log that were not noted.';
