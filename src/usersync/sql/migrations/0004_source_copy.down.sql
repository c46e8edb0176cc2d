drop table if exists usersync.auth_users;
