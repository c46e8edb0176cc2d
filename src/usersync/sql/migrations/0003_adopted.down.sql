drop table if exists usersync.adopted;
