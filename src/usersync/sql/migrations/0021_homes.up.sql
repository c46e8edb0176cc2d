-- The home of each webhook and stream: the database whose events it sends. A copy of the database is another one.

-- Null: no worker has served it yet. A handler has no home.
alter table usersync.subscriptions add column if not exists home_cluster text;
alter table usersync.subscriptions add column if not exists home_address text;
comment on column usersync.subscriptions.home_cluster is
    'The cluster of its database: the system identifier, and the oid of the database.';
comment on column usersync.subscriptions.home_address is
    'The address of its database, without a login: the project of Supabase, or host, port and database.';

do $usersync$
begin
    -- held: this database is another one than its home. The table has few rows, so the check takes no time.
    alter table usersync.subscriptions drop constraint if exists subscriptions_state_check;
    alter table usersync.subscriptions add constraint subscriptions_state_check
    check (state in ('active', 'paused', 'held'));
end;
$usersync$;
