drop function if exists usersync.keep_description() cascade;
