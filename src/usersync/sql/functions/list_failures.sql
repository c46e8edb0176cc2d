-- A page of the failures table, the oldest failure first. It starts after the failure with the given time and user.
create or replace function usersync.list_failures(
    user_id uuid, after_time timestamptz, after_id uuid, page_size integer
) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(page) order by page.first_failed_at, page.user_id), '[]')
        from (
            select
                failure.user_id,
                failure.kind,
                failure.outcome,
                failure.sqlstate,
                failure.constraint_name as "constraint",
                failure.column_name as "column",
                failure.message,
                failure.raised_in,
                failure.attempts,
                failure.first_failed_at,
                failure.last_failed_at,
                failure.next_try_at
            from usersync.sync_failures as failure
            where (failure.kind = 'event' or failure.user_id <> all((select usersync.resolved_failures())::uuid[]))
                and (list_failures.user_id is null or failure.user_id = list_failures.user_id)
                and (
                    list_failures.after_time is null
                    or (failure.first_failed_at, failure.user_id) > (list_failures.after_time, list_failures.after_id)
                )
            order by failure.first_failed_at, failure.user_id
            -- A user may have several failures of one transaction. A page does not end between them.
            fetch first (coalesce(list_failures.page_size, 1000000000)) rows with ties
        ) as page
    );
end;
$usersync$;
comment on function usersync.list_failures(uuid, timestamp with time zone, uuid, integer) is
    'usersync: a page of the failures table, the oldest failure first.';
