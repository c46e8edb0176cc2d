alter table if exists usersync.sync_failures drop column if exists kind;
alter table if exists usersync.sync_runs drop column if exists deleted_upstream;
