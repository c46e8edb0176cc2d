drop table if exists usersync.feed;
drop table if exists usersync.event_numbers;
