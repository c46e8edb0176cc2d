-- Records users of the auth server's transaction who are not synced because usersync is paused. Does not read the users
-- table, which may be locked. An earlier failure of the user stays, unless the user is deleted now. Raises nothing.
create or replace function usersync.record_paused_users(ids uuid[], fired_by text, applies_deletions boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
begin
    insert into usersync.sync_failures as failure (user_id, kind, outcome, sqlstate, message)
    select
        noted.id,
        case when noted.alive then 'row' else 'removal' end,
        case when noted.alive and fired_by = 'UPDATE' then 'degraded' else 'failed' end,
        'US004',
        'Not tried: usersync is paused. To sync the user: usersync resume'
    from (select id, usersync.auth_user_exists(id) as alive from unnest(usersync.expected_users(ids)) as id offset 0) as noted
    where noted.alive or applies_deletions
    on conflict (user_id) where kind <> 'event' do update set
        kind = excluded.kind,
        outcome = excluded.outcome,
        sqlstate = excluded.sqlstate,
        constraint_name = null,
        column_name = null,
        message = excluded.message,
        raised_in = null,
        last_failed_at = now()
    where excluded.kind = 'removal' and failure.kind <> 'removal';
exception when others or assert_failure then
    raise warning 'usersync is paused, and % user(s) could not be recorded: % %', cardinality(ids), sqlstate, sqlerrm
        using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)),
        hint = 'After "usersync resume", run "usersync sync".';
end;
$usersync$;
comment on function usersync.record_paused_users(uuid[], text, boolean) is
    'usersync: records users who are not synced because usersync is paused.';
