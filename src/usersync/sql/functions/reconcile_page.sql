-- Compares one page of both tables and, unless dry_run, writes the rows that are missing or stale. A page is a range of
-- ids. It starts at first_id, ends at last_id at the latest, and contains page_size rows of the table with more rows in
-- the range. next_id is the start of the next page, null after the last one.
--
-- Rows of deleted users are counted and not changed: orphaned if the auth server has no such user, deleted_upstream if
-- it has soft-deleted the user.
--
-- The planner must walk both primary keys, whatever it knows about the tables' sizes (an empty table may have been
-- analyzed). So sequential scans are off; bitmap scans are off, because their result has no order and would be sorted;
-- and the query is a full join, which cannot be a nested loop.
create or replace function usersync.reconcile_page(
    first_id uuid,
    last_id uuid,
    page_size integer,
    dry_run boolean,
    out next_id uuid,
    out examined bigint,
    out auth_users bigint,
    out users bigint,
    out missing bigint,
    out stale bigint,
    out orphaned bigint,
    out skipped bigint,
    out deleted_upstream bigint,
    out degraded bigint,
    out failed bigint,
    out oldest_missing timestamptz,
    out differences jsonb
)
language plpgsql
set search_path = pg_catalog, "@pinned"
set enable_seqscan = off
set enable_bitmapscan = off
as $usersync$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    page_end uuid;
    is_empty boolean;
    failed_ids uuid[];
    differing_ids uuid[];
    stale_ids uuid[];
begin
    page_end := least(
        (
            select source."id" from "@source_table" as source
            where source."id" >= reconcile_page.first_id
            order by source."id" offset reconcile_page.page_size - 1 limit 1
        ),
        (
            select target."@key"::uuid from "@users_table" as target
            where target."@key" >= reconcile_page.first_id::"@key_type" and ('@is_user_row')
            order by target."@key" offset reconcile_page.page_size - 1 limit 1
        ),
        reconcile_page.last_id
    );
    if page_end < reconcile_page.last_id then
        reconcile_page.next_id := least(
            (
                select source."id" from "@source_table" as source
                where source."id" > page_end order by source."id" limit 1
            ),
            (
                select target."@key"::uuid from "@users_table" as target
                where target."@key" > page_end::"@key_type" and ('@is_user_row') order by target."@key" limit 1
            )
        );
        if reconcile_page.next_id > reconcile_page.last_id then
            reconcile_page.next_id := null;
        end if;
    end if;
    -- The failures table may contain users who are in neither table. Their page is the one before their id.
    failed_ids := array(
        select failure.user_id from usersync.sync_failures as failure
        where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
            and failure.user_id is distinct from reconcile_page.next_id and failure.kind <> 'event'
    );

    is_empty := not reconcile_page.dry_run and '@expects_everybody' and not exists (
        select from "@users_table" as target
        where target."@key" >= reconcile_page.first_id::"@key_type" and target."@key" <= page_end::"@key_type" and ('@is_user_row')
    );
    if is_empty then
        -- No user of the page has a row, as in a first run. There is nothing to compare, and the ids come from the
        -- index alone.
        differing_ids := array(
            select source."id" from "@source_table" as source
            where source."id" between reconcile_page.first_id and page_end
        );
        reconcile_page.examined := cardinality(differing_ids);
        reconcile_page.stale := 0;
        reconcile_page.orphaned := 0;
        reconcile_page.skipped := 0;
        reconcile_page.deleted_upstream := 0;
    else
        select
            count(*),
            count(*) filter (where compared.is_live),
            count(*) filter (where compared.has_row),
            count(*) filter (where compared.class = 'missing'),
            count(*) filter (where compared.class = 'stale'),
            count(*) filter (where compared.class = 'orphaned'),
            count(*) filter (where compared.class = 'skipped'),
            count(*) filter (where compared.class = 'deleted_upstream'),
            min(compared.created_at) filter (where compared.class = 'missing'),
            array_agg(compared.user_id) filter (where compared.class in ('missing', 'stale')),
            array_agg(compared.user_id) filter (where compared.class = 'stale'),
            jsonb_agg(
                jsonb_build_object('user_id', compared.user_id, 'class', compared.class, 'columns', compared.columns)
                order by compared.user_id
            ) filter (where compared.columns is not null)
        into
            reconcile_page.examined,
            reconcile_page.auth_users,
            reconcile_page.users,
            reconcile_page.missing,
            reconcile_page.stale,
            reconcile_page.orphaned,
            reconcile_page.skipped,
            reconcile_page.deleted_upstream,
            reconcile_page.oldest_missing,
            differing_ids,
            stale_ids,
            reconcile_page.differences
        from (
            select
                classified.*,
                case
                    when not reconcile_page.dry_run or classified.class is null or classified.class = 'skipped' then null
                    when classified.class = 'stale' then classified.differing
                    else '{}'
                end as columns
            from (
                select
                    coalesce(source."id", target."@key"::uuid) as user_id,
                    source."id" is not null and source."deleted_at" is null as is_live,
                    target."@key" is not null as has_row,
                    source."created_at" as created_at,
                    array_remove(array['@differing_columns']::text[], null) as differing,
                    case
                        when source."id" is null then case when ('@is_removed') is not true then 'orphaned' end
                        when source."deleted_at" is not null then case
                            when target."@key" is not null and ('@is_soft_removed') is not true then 'deleted_upstream'
                        end
                        when target."@key" is null then case when '@is_expected' then 'missing' else 'skipped' end
                        when row('@stored_auth_values') is distinct from row('@source_auth_values') then 'stale'
                    end as class
                from (
                    select source.* from "@source_table" as source
                    where source."id" between reconcile_page.first_id and page_end
                ) as source
                full join (
                    select target.* from "@users_table" as target
                    where target."@key" >= reconcile_page.first_id::"@key_type" and target."@key" <= page_end::"@key_type" and ('@is_user_row')
                ) as target on target."@key" = source."id"::"@key_type"
            ) as classified
            offset 0
        ) as compared;
    end if;

    if not reconcile_page.dry_run then
        if cardinality(failed_ids) > 0 then
            -- A trigger of the application that has changed a row would change it again. Such users are left out until
            -- the trigger or the values in either table change. Users whose next attempt is not due are left out too.
            differing_ids := array(
                select unnest(differing_ids)
                union
                select unnest(failed_ids)
                except
                select out_of_sync.user_id
                from usersync.find_out_of_sync_users(array(
                    select failure.user_id from usersync.sync_failures as failure
                    where failure.user_id = any(failed_ids) and failure.kind <> 'event' and failure.sqlstate = 'US001'
                ), false) as out_of_sync
                join usersync.sync_failures as failure using (user_id, sqlstate, message)
                where out_of_sync.sqlstate = 'US001'
                except
                select failure.user_id from usersync.sync_failures as failure
                where failure.user_id = any(failed_ids) and failure.kind <> 'event' and failure.next_try_at > now()
            );
        end if;
        perform usersync.sync_on_request(differing_ids, 'PAGE');
        perform usersync.record_kept_events(array(
            select distinct failure.user_id from usersync.sync_failures as failure
            where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
                and failure.user_id is distinct from reconcile_page.next_id and failure.kind = 'event'
                and coalesce(failure.next_try_at <= now(), true)
        ));
        -- PostgreSQL itself may store another value than it was given, for example a text cut to its column's length.
        perform usersync.record_out_of_sync_users(array(
            select unnest(stale_ids)
            except
            select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(stale_ids) and failure.kind <> 'event'
        ), false);
    end if;

    if is_empty then
        -- Users who have a row now or whose row was refused. The other users were deleted.
        reconcile_page.missing := (
            select count(*) from "@users_table" as target
            where target."@key" >= reconcile_page.first_id::"@key_type" and target."@key" <= page_end::"@key_type" and ('@is_user_row')
        ) + (
            select count(*) from usersync.sync_failures as failure
            where failure.user_id = any(differing_ids) and failure.kind = 'row' and failure.outcome = 'failed'
        );
    end if;
    select
        count(*) filter (where failure.outcome = 'degraded'),
        count(*) filter (where failure.outcome = 'failed')
    into reconcile_page.degraded, reconcile_page.failed
    from usersync.sync_failures as failure
    where failure.user_id between reconcile_page.first_id and coalesce(reconcile_page.next_id, reconcile_page.last_id)
        and failure.user_id is distinct from reconcile_page.next_id
        and failure.kind = 'row';
end;
$usersync$;
comment on function usersync.reconcile_page(uuid, uuid, integer, boolean) is
    'usersync: compares one page of both tables, and writes the rows that are missing or stale.';
