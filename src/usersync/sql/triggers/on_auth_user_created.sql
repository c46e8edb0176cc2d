create or replace trigger on_auth_user_created
after insert on "@source_table"
referencing new table as new_users
for each row execute function usersync.handle_new_user();
