create or replace trigger on_auth_user_updated
after update on "@source_table"
for each row execute function usersync.handle_updated_user();
