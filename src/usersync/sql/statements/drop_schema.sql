drop table if exists usersync.functions;
drop table if exists usersync.schema_version;
drop schema if exists usersync;
