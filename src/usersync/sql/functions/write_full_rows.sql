-- Writes the rows of users who are not new, and returns how many it wrote: what is missing is inserted, what
-- differs is updated. Not by one upsert, which would fail for every row that is there already once the table has
-- a column that new rows cannot fill.
--
-- No value overwrites a newer one, nobody who was deleted comes back, and the auth server waits for none of it: its
-- rows are held FOR KEY SHARE, which keeps them from being deleted (or given another phone number) and from nothing
-- else. A row that is missing is inserted; where somebody was faster, theirs stands. A row that is there is held
-- first and compared afterwards, by a statement that sees what the auth server's table holds by then: whoever
-- changes it later cannot mirror it before this has ended. source_is_locked: nobody else can be changing these users in the auth
-- server's table, so that holding the rows can be left out.
--
-- A user's other row is looked up in a scalar subquery, here and elsewhere, because that is no join: whatever the
-- planner believes about the tables' sizes, it has the primary key to go by and nothing else. A join that was
-- planned while a table was empty may read all of it for each row, once it has grown.
--
-- plan_cache_mode: planning this anew each time would take as long as running it.
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
