-- The attempts of subscriptions: when each was made, and how it ended.

-- Without a foreign key: it would look at the same row of usersync.subscriptions for each attempt.
create table if not exists usersync.delivery_attempts (
    subscription text not null,
    attempt_id bigint generated always as identity,
    number bigint not null,
    event_id uuid not null,
    -- The first is 1. An event that is delivered again starts at 1 again.
    attempt integer not null,
    attempted_at timestamptz not null,
    -- Null: the worker ended during the attempt.
    seconds real,
    -- Null: the attempt succeeded.
    error text,
    -- What the receiver answered.
    answer text,
    primary key (subscription, attempt_id)
);
create index if not exists delivery_attempts_event on usersync.delivery_attempts (subscription, event_id);
comment on table usersync.delivery_attempts is
    'The attempts of subscriptions: of each event the last 20. Workers delete old ones.';
