-- Syncs both tables from SQL: writes rows that are missing or stale, and counts rows of deleted users. Without
-- arguments it syncs all rows in one transaction. With page_size it syncs one page; call it again with the returned
-- next_id. Pages are for the Data API, which ends a call after 8 seconds.
create or replace function public.sync_existing_auth_users(first_id uuid default null, page_size integer default null)
returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    page record;
    compared record;
    cursor_id uuid := coalesce(first_id, '00000000-0000-0000-0000-000000000000');
    synced bigint := 0;
    errors bigint := 0;
    examined bigint := 0;
    orphaned bigint := 0;
    deleted_upstream bigint := 0;
begin
    perform usersync.refuse_while_paused();
    if page_size < 1 then
        raise exception 'page_size must be at least 1, not %', page_size using errcode = 'invalid_parameter_value';
    end if;
    if first_id is null and page_size is null then
        compared := usersync.compare_tables();
        if compared.in_step then
            return jsonb_build_object(
                'synced', 0, 'errors', 0, 'examined', compared.examined, 'orphaned', compared.orphaned,
                'deleted_upstream', compared.deleted_upstream, 'next_id', null);
        end if;
    end if;
    loop
        page := usersync.reconcile_page(
            cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', coalesce(sync_existing_auth_users.page_size, 5000), false);
        examined := examined + page.examined;
        errors := errors + page.degraded + page.failed;
        synced := synced + page.missing + page.stale;
        orphaned := orphaned + page.orphaned;
        deleted_upstream := deleted_upstream + page.deleted_upstream;
        cursor_id := page.next_id;
        exit when cursor_id is null or page_size is not null;
    end loop;
    return jsonb_build_object(
        'synced', greatest(synced - errors, 0), 'errors', errors, 'examined', examined, 'orphaned', orphaned,
        'deleted_upstream', deleted_upstream, 'next_id', cursor_id);
end;
$usersync$;
comment on function public.sync_existing_auth_users(uuid, integer) is
    'usersync: syncs the users table with the auth server''s, all at once or page by page.';
