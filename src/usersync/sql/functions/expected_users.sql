-- Filters users: a missing or unwritable row is a failure only for those that are returned. Users whom the settings
-- skip and who have no row are left out.
create or replace function usersync.expected_users(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    unexpected uuid[];
begin
    -- Inside the block, so that the handler also catches a missing column of the auth server's table.
    unexpected := array(
        select source."id" from "@source_table" as source
        where source."id" = any(expected_users.ids) and source."deleted_at" is null and ('@is_expected') is not true
    );
    if cardinality(unexpected) > 0 then
        begin
            unexpected := array(
                select unnest(unexpected)
                except
                select target."@key"::uuid from "@users_table" as target
                where target."@key" = any(unexpected::"@key_type"[]) and ('@is_user_row')
            );
        exception when others then
            null;  -- No table, no rows.
        end;
        ids := array(select id from unnest(ids) as id where id <> all(unexpected));
    end if;
    return ids;
exception when undefined_table or undefined_column then
    return ids;
end;
$usersync$;
comment on function usersync.expected_users(uuid[]) is
    'usersync: filters users for whom a missing row is a failure.';
