-- Existing users as events of a subscription that began later.

create table if not exists usersync.backfills (
    subscription text primary key references usersync.subscriptions on delete cascade,
    requested_at timestamptz not null default now(),
    -- Events that are not visible in it come through the feed.
    feed_snapshot pg_snapshot not null,
    -- The position in the feed after the backfill.
    starts_after bigint not null,
    -- The users are listed when all transactions before this one have ended.
    ready_xid xid8,
    -- The last user of the list, and the number of that event.
    listed_until uuid,
    last_number bigint not null default -1000000000000,
    is_complete boolean not null default false
);
comment on table usersync.backfills is
    'Subscriptions that get the existing users as events, and how far the users are listed.';

create table if not exists usersync.backfill_events (
    subscription text not null references usersync.backfills on delete cascade,
    -- Below zero: before all numbers of the feed.
    number bigint not null,
    user_id uuid not null,
    primary key (subscription, number)
);
comment on table usersync.backfill_events is
    'The next existing users of a backfill, and those whose events are parked. The events are made from them when they are read.';
