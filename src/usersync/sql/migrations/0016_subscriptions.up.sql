-- Subscriptions: who wants which events of the feed, how far each of them is, and what failed.

create table if not exists usersync.subscriptions (
    name text primary key,
    kind text not null,
    -- Actions, and prefixes that end in a star.
    actions text[] not null check (cardinality(actions) > 0),
    -- Further filters, as usersync.audit_conditions() reads them.
    wanted jsonb not null default '{}',
    config jsonb not null default '{}',
    state text not null default 'active' check (state in ('active', 'paused')),
    -- Why it is paused.
    reason text,
    created_at timestamptz not null default now(),
    created_by text not null default session_user,
    state_since timestamptz not null default now()
);
comment on table usersync.subscriptions is
    'Who wants events of the audit log: Python handlers, and other kinds. "usersync subscriptions" manages them.';

create table if not exists usersync.subscription_shards (
    subscription text not null references usersync.subscriptions on delete cascade,
    -- The events of one entity are in one shard.
    shard integer not null check (shard between 0 and 15),
    -- The number of the last event that is handled or parked.
    position bigint not null,
    worker uuid,
    leased_until timestamptz,
    -- Grows with each new lease. A worker whose number is older cannot move the position.
    fence bigint not null default 0,
    -- After a worker ended without giving back its lease, events up to this number are handled one by one, and the one in
    -- hand is named first. So an event that ends the process is found.
    careful_until bigint not null default 0,
    trying bigint,
    primary key (subscription, shard)
) with (fillfactor = 50);
comment on table usersync.subscription_shards is
    'How far each subscription is, in 16 shards by entity, and which worker has the lease of each shard.';

create table if not exists usersync.parked_events (
    subscription text not null references usersync.subscriptions on delete cascade,
    number bigint not null,
    event_id uuid not null,
    shard integer not null,
    entity_type text,
    entity_id text,
    state text not null default 'waiting' check (state in ('waiting', 'dead')),
    attempts integer not null default 0,
    -- Null: dead, or waiting for an earlier event of its entity.
    next_try_at timestamptz,
    last_tried_at timestamptz,
    error text,
    parked_at timestamptz not null default now(),
    primary key (subscription, number)
);
create index if not exists parked_events_due on usersync.parked_events (subscription, next_try_at)
where next_try_at is not null;
create index if not exists parked_events_entity on usersync.parked_events (subscription, entity_id, number)
where state = 'waiting';
comment on table usersync.parked_events is
    'Events that a subscription could not handle, and later events of their entities: waiting for the next attempt, or dead.';

create table if not exists usersync.workers (
    worker uuid primary key,
    host text not null,
    pid integer not null,
    subscriptions text[] not null,
    started_at timestamptz not null default now(),
    alive_until timestamptz not null
);
comment on table usersync.workers is 'The running processes of "usersync worker", and the subscriptions that each serves.';

create table if not exists usersync.periodic_tasks (
    task text primary key,
    next_at timestamptz not null,
    last_error text
);
comment on table usersync.periodic_tasks is
    'When the periodic tasks of "usersync worker" are due. The worker that moves the time runs the task.';
