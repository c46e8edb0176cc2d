drop table if exists usersync.periodic_tasks;
drop table if exists usersync.workers;
drop table if exists usersync.parked_events;
drop table if exists usersync.subscription_shards;
drop table if exists usersync.subscriptions;
