drop table if exists usersync.backfill_events;
drop table if exists usersync.backfills;
