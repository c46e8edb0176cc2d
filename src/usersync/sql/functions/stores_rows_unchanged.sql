-- Whether PostgreSQL stores rows that are inserted into the users table unchanged and at once: no trigger of the
-- application fires for an INSERT, the table has no partitions, which may have triggers, no check waits for COMMIT, and
-- no DEFAULT calls a function of the application, which may write to any table.
--
-- IMMUTABLE although it reads the catalog, so that a call with constants is computed when an expression or a statement
-- is planned, and costs a sign-up nothing. A plan that names a table as a constant of type regclass is made again as
-- soon as that table, or one of its triggers or rules, is altered. Call it with constants only, and only where the
-- statement is planned in READ COMMITTED, see read_catalog.
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
    'usersync: whether rows that are inserted into the users table are stored unchanged.';
