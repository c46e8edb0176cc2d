create or replace trigger on_auth_user_deleted
after delete on "@source_table"
referencing old table as old_users
for each row execute function usersync.handle_deleted_user();
