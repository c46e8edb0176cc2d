drop table if exists usersync.audit_rejects;
