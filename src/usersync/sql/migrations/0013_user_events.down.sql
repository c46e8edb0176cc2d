do $usersync$
begin
    if exists (
        select from pg_catalog.pg_attribute
        where attrelid = to_regclass('usersync.sync_failures') and attname = 'failure_id' and not attisdropped
    ) then
        delete from usersync.sync_failures where kind = 'event';
        drop index if exists usersync.sync_failures_row, usersync.sync_failures_user;
        alter table usersync.sync_failures drop column failure_id, drop column if exists event;
        alter table usersync.sync_failures add primary key (user_id);
    end if;
end;
$usersync$;
drop table if exists usersync.user_event_requests;
