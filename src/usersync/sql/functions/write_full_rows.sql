-- Inserts missing rows and updates rows that differ. Returns how many rows were written. A single upsert would fail for
-- existing rows if the table has a column that new rows cannot fill.
--
-- No value overwrites a newer one, no deleted user gets a row again, and the auth server does not wait. Rows of the
-- auth server's table are locked FOR KEY SHARE, which prevents only their deletion (and a change of the phone number).
-- A missing row is inserted; if another session has inserted it first, that row stays. An existing row is locked first
-- and compared by a later statement, which sees the current row of the auth server's table. A session that changes that
-- row later waits for this transaction before it can mirror the change. source_is_locked: no other session can change
-- these users in the auth server's table, so that no locks are needed.
--
-- A scalar subquery finds the user's row in the other table, here and elsewhere. It is not a join, so the planner can
-- only use the primary key, whatever it knows about the tables' sizes. A join that was planned while a table was empty
-- may read the whole table for each row after it has grown.
--
-- plan_cache_mode: planning these statements each time would take as long as running them.
create or replace function usersync.write_full_rows(ids uuid[], source_is_locked boolean) returns bigint
language plpgsql
set search_path = pg_catalog, "@pinned"
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    inserted bigint;
    updated bigint;
begin
    insert into "@users_table" ("@columns")
    select '@source_values'
    from "@source_table" as source
    where source."id" = any(write_full_rows.ids)
        and source."deleted_at" is null
        and ('@is_expected')
        and (select true from "@users_table" as target where target."@key" = source."id"::"@key_type") is null
    for key share of source
    on conflict ("@key") do nothing;
    get diagnostics inserted = row_count;
    if inserted = cardinality(ids) then
        return inserted;
    end if;

    if not source_is_locked then
        perform from "@source_table" as source where source."id" = any(write_full_rows.ids) for key share;
        perform from "@users_table" as target where target."@key" = any(write_full_rows.ids::"@key_type"[]) for no key update;
    end if;
    update "@users_table" as target
    set ("@auth_columns") = (
        select '@assigned_auth_values' from "@source_table" as source where source."id" = target."@key"::uuid
    )
    where target."@key" = any(write_full_rows.ids::"@key_type"[])
        and ('@is_user_row')
        and (
            select row('@stored_auth_values') is distinct from row('@source_auth_values')
            from "@source_table" as source
            where source."id" = target."@key"::uuid and source."deleted_at" is null
        );
    get diagnostics updated = row_count;
    return inserted + updated;
end;
$usersync$;
comment on function usersync.write_full_rows(uuid[], boolean) is
    'usersync: inserts and updates the rows of these users, and returns how many.';
