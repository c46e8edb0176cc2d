alter table if exists usersync.sync_failures drop column if exists next_try_at;
