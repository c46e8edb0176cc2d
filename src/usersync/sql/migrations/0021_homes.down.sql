do $usersync$
begin
    if to_regclass('usersync.subscriptions') is not null then
        -- A worker of the earlier release must not send the events of a copy.
        update usersync.subscriptions set state = 'paused' where state = 'held';
        alter table usersync.subscriptions drop constraint if exists subscriptions_state_check;
        alter table usersync.subscriptions add constraint subscriptions_state_check check (state in ('active', 'paused'));
        alter table usersync.subscriptions drop column if exists home_address;
        alter table usersync.subscriptions drop column if exists home_cluster;
    end if;
end;
$usersync$;
