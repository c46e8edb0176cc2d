drop table if exists usersync.pause;
