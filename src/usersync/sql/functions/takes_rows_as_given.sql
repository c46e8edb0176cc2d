-- Whether rows that are inserted into the users table end up there as they were given, at once: no trigger of the
-- application fires for an INSERT, no partition may have one, and no check waits for COMMIT.
--
-- IMMUTABLE, though it reads the catalog, so that its call with constants is computed when an expression or a statement
-- is planned, and costs a sign-up nothing. PostgreSQL plans anew what names a table as a constant of type regclass as
-- soon as that table, or one of its triggers, is altered. Do not call it with anything but constants.
create or replace function usersync.takes_rows_as_given(users_table regclass, source_table regclass) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
    select pg_partition_root(users_table) is null
        and not exists (
            select from pg_trigger
            where tgrelid in (users_table, source_table) and tgtype & 4 <> 0
                and (tgdeferrable or tgrelid = users_table and not tgisinternal)
        );
$usersync$;
comment on function usersync.takes_rows_as_given(regclass, regclass) is
    'usersync: whether rows that are inserted into the users table end up there as they were given.';
