-- Events of users: what has requested them, and the events that could not be stored yet.

create table if not exists usersync.user_event_requests (
    wanted_by text primary key,
    with_values boolean not null default false,
    wanted_at timestamptz not null default now()
);
comment on table usersync.user_event_requests is
    'What wants events of users in the audit log: the settings ([audit] user_events), and whatever called '
    'usersync.request_user_events. While the table is empty, usersync records none.';

-- A user may lack several events, besides a row. So the user's id is no longer the key.
do $usersync$
begin
    if exists (
        select from pg_catalog.pg_attribute
        where attrelid = 'usersync.sync_failures'::regclass and attname = 'failure_id' and not attisdropped
    ) then
        return;
    end if;
    alter table usersync.sync_failures drop constraint if exists sync_failures_pkey;
    alter table usersync.sync_failures
        add column event jsonb,
        add column failure_id bigint generated always as identity primary key;
    create unique index sync_failures_row on usersync.sync_failures (user_id) where kind <> 'event';
    create index sync_failures_user on usersync.sync_failures (user_id);
end;
$usersync$;
comment on column usersync.sync_failures.event is
    'The event that could not be stored in the audit log, if the kind is event. "usersync retry" and "usersync sync" '
    'store it.';
