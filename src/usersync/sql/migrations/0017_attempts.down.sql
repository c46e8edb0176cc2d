drop table if exists usersync.delivery_attempts;
