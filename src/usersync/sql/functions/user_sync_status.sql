-- The counts of both tables as a JSON object. Reads both tables, once if they are in sync, and writes nothing.
create or replace function public.user_sync_status() returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '@command_lock_timeout'
as $usersync$
#variable_conflict use_column
declare
    page record;
    cursor_id uuid := '00000000-0000-0000-0000-000000000000'::uuid;
    compared record := usersync.compare_tables();
    auth_users bigint := 0;
    users bigint := 0;
    missing bigint := 0;
    stale bigint := 0;
    orphaned bigint := 0;
    skipped bigint := 0;
    deleted_upstream bigint := 0;
    oldest_missing timestamptz;
begin
    if compared.in_step then
        auth_users := compared.auth_users;
        users := compared.users;
        skipped := compared.skipped;
        orphaned := compared.orphaned;
        deleted_upstream := compared.deleted_upstream;
        cursor_id := null;
    end if;
    while cursor_id is not null loop
        page := usersync.reconcile_page(cursor_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 20000, true);
        auth_users := auth_users + page.auth_users;
        users := users + page.users;
        missing := missing + page.missing;
        stale := stale + page.stale;
        orphaned := orphaned + page.orphaned;
        skipped := skipped + page.skipped;
        deleted_upstream := deleted_upstream + page.deleted_upstream;
        oldest_missing := least(oldest_missing, page.oldest_missing);
        cursor_id := page.next_id;
    end loop;
    return jsonb_build_object(
        'auth_users', auth_users,
        'users', users,
        'missing', missing,
        'stale', stale,
        'orphaned', orphaned,
        'skipped', skipped,
        'deleted_upstream', deleted_upstream,
        'oldest_missing_at', oldest_missing
    ) || usersync.failure_status();
end;
$usersync$;
comment on function public.user_sync_status() is
    'usersync: the number of users in both tables, and of missing, stale, orphaned, skipped, deleted upstream and failed users.';
