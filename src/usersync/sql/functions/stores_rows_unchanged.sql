-- Whether rows that are inserted into the users table end up there as they were given, at once: no trigger of the
-- application fires for an INSERT, no partition may have one, no check waits for COMMIT, and no DEFAULT runs a function of the
-- application, which may write to where one does.
--
-- IMMUTABLE, though it reads the catalog, so that its call with constants is computed when an expression or a statement
-- is planned, and costs a sign-up nothing. PostgreSQL plans anew what names a table as a constant of type regclass as
-- soon as that table, or one of its triggers or rules, is altered. Call it with constants only, and so that it is planned
-- in READ COMMITTED only, see read_catalog.
create or replace function usersync.stores_rows_unchanged(users_table regclass, source_table regclass) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    return pg_partition_root(users_table) is null
        and not (select computes_defaults from usersync.read_catalog(users_table))
        and not exists (
            select from usersync.table_triggers(users_table)
            where tgtype & 4 <> 0 and (tgdeferrable or not tgisinternal)
        )
        and not exists (
            select from usersync.table_triggers(source_table) where tgtype & 4 <> 0 and tgdeferrable
        );
end;
$usersync$;
comment on function usersync.stores_rows_unchanged(regclass, regclass) is
    'usersync: whether rows that are inserted into the users table end up there as they were given.';
