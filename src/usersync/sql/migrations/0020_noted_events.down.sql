alter table if exists usersync.event_numbers drop column if exists stored_id;
drop table if exists usersync.noted_log;
drop table if exists usersync.noted_events;
drop sequence if exists usersync.missed_statements_seq;
