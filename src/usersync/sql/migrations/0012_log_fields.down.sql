-- CASCADE drops the default of the column seq in a log that stays, and the field of the type.
drop sequence if exists usersync.audit_log_seq cascade;
drop table if exists usersync.audit_holds;
drop domain if exists usersync.event_severity cascade;
