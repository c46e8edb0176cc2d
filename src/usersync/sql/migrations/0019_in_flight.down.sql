alter table if exists usersync.workers drop column if exists in_flight;
