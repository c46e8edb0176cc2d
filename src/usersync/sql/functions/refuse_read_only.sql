-- Raises an error if nothing can be written (a standby, a full disk). The functions that sync a user catch every error:
-- they would report the user as a failure or, because no failure can be recorded, as in sync.
create or replace function usersync.refuse_read_only() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if current_setting('transaction_read_only')::boolean then
        raise read_only_sql_transaction using message = 'users cannot be synced in a read-only transaction';
    end if;
end;
$usersync$;
comment on function usersync.refuse_read_only() is 'usersync: raises an error if nothing can be written.';
