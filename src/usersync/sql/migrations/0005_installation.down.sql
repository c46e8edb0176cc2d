alter table if exists usersync.settings drop column if exists installation;
