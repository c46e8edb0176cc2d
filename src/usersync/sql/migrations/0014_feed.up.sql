-- The feed: the events of the audit log in the order in which they became visible, with numbers.

create table if not exists usersync.event_numbers (
    number bigint primary key,
    event_id uuid not null,
    occurred_at timestamptz not null,
    -- An event is never numbered twice, whatever a restore into another cluster does to transaction ids.
    unique (event_id, occurred_at)
);
comment on table usersync.event_numbers is
    'The number of each event in the feed. An event gets it after its transaction is seen to be committed.';

create table if not exists usersync.feed (
    only_row boolean primary key default true check (only_row),
    -- Events of transactions that are visible in this snapshot have their numbers.
    snapshot pg_snapshot not null,
    last_number bigint not null default 0,
    -- How many events were numbered since the BRIN index of the log was completed.
    unsummarized bigint not null default 0,
    cluster text not null,
    -- Events from before the feed have none: those with a lower seq that are visible in the first snapshot.
    first_snapshot pg_snapshot not null,
    first_seq bigint not null
);
comment on table usersync.feed is 'How far the events of the audit log are numbered. Empty until the first reader of the feed.';
