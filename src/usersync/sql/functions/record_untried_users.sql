-- Records users who are not tried again in this transaction. A user's earlier failure stays, because it contains more
-- information. Waits for a lock on the failures table only once in a transaction.
create or replace function usersync.record_untried_users(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '10ms'
as $usersync$
begin
    if current_setting('usersync.failures_locked', true) = 'yes' then
        raise lock_not_available using message = 'another session has locked the failures table';
    end if;
    perform usersync.record_failures(
        array(
            select unnest(ids)
            except select failure.user_id from usersync.sync_failures as failure where failure.user_id = any(ids) and failure.kind <> 'event'
        ),
        'US003', null, null,
        'Not tried: earlier attempts in the same transaction failed, and took too long or raised in a trigger of the '
            'application.',
        null
    );
exception when others or assert_failure then
    if sqlstate = '55P03' then
        perform set_config('usersync.failures_locked', 'yes', true);
    end if;
    raise warning 'usersync: % user(s) were not synced, and the failures table could not be written', cardinality(ids)
        using detail = format('Users: %s. Cause: %s %s.', left(array_to_string(ids, ', '), 1000), sqlstate, sqlerrm),
        hint = 'Run "usersync doctor", then "usersync sync".';
end;
$usersync$;
comment on function usersync.record_untried_users(uuid[]) is
    'usersync: records users who are not tried in this transaction any more.';
