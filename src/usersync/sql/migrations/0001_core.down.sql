drop table if exists usersync.settings;
drop table if exists usersync.sync_runs;
drop table if exists usersync.sync_failures;
