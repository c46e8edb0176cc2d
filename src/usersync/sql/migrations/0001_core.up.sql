-- What usersync keeps for itself. Nobody but the owner reaches this schema.

create table if not exists usersync.sync_failures (
    user_id uuid primary key,
    outcome text not null check (outcome in ('degraded', 'failed')),
    sqlstate text not null,
    constraint_name text,
    column_name text,
    message text not null,
    raised_in text,
    attempts integer not null default 1,
    first_failed_at timestamptz not null default now(),
    last_failed_at timestamptz not null default now()
);
comment on table usersync.sync_failures is
    'The ledger: users whose row is missing (failed) or holds less than it should (degraded), and why. '
    'Success removes the row. DETAIL of an error is never kept, because it holds e-mail addresses.';
comment on column usersync.sync_failures.raised_in is
    'The function that raised, where it was a function: usually a trigger of the application.';

create table if not exists usersync.sync_runs (
    run_id uuid not null,
    part integer not null,
    part_count integer not null,
    state text not null default 'running' check (state in ('running', 'interrupted', 'finished')),
    next_id uuid,
    last_id uuid not null,
    page_size integer not null check (page_size > 0),
    examined bigint not null default 0,
    missing bigint not null default 0,
    stale bigint not null default 0,
    orphaned bigint not null default 0,
    degraded bigint not null default 0,
    failed bigint not null default 0,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    started_by text not null default current_setting('application_name'),
    primary key (run_id, part)
);
comment on table usersync.sync_runs is
    'Reconciling runs, a row for each range of ids: how far it came (next_id) and what it found.';

create table if not exists usersync.settings (
    only_row boolean primary key default true check (only_row),
    settings jsonb not null,
    applied_at timestamptz not null default now()
);
comment on table usersync.settings is 'The settings that the functions in this database were made from.';
