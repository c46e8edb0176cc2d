drop view if exists usersync.audit_logs_guard;
drop table if exists usersync.functions;
drop table if exists usersync.schema_version;
drop schema if exists usersync;
