-- Applies on_delete to the rows of users who no longer exist in the auth server's table, and on_soft_delete to the rows
-- of users whom it has soft-deleted. Does not change other rows.
create or replace function usersync.remove_users(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    gone uuid[];
    soft_deleted uuid[];
    to_delete uuid[];
begin
    if '@on_delete' = 'keep' and '@on_soft_delete' = 'keep' then
        return;
    end if;
    -- Locks the rows first. The next statement then sees the current rows of the auth server's table. FOR NO KEY UPDATE
    -- does not wait for a session that has just referenced a row.
    perform from "@users_table" as target where target."@key" = any(remove_users.ids::"@key_type"[]) for no key update;
    soft_deleted := array(
        select source."id" from "@source_table" as source
        where source."id" = any(remove_users.ids) and source."deleted_at" is not null
    );
    gone := array(
        select wanted.id from unnest(remove_users.ids) as wanted (id)
        where (select true from "@source_table" as source where source."id" = wanted.id) is null
    );
    to_delete := case when '@on_delete' = 'delete' then gone else '{}'::uuid[] end
        || case when '@on_soft_delete' = 'delete' then soft_deleted else '{}'::uuid[] end;
    if cardinality(to_delete) > 0 then
        perform usersync.refuse_users_with_many_events(to_delete);
        delete from "@users_table" as target where target."@key" = any(to_delete::"@key_type"[]) and ('@is_user_row');
    end if;
    if '@on_delete' in ('anonymize', 'soft') then
        update "@users_table" as target
        set ("@removed_columns") = row('@removed_values')
        where target."@key" = any(gone::"@key_type"[]) and ('@is_user_row') and ('@is_removed') is not true;
    end if;
    if '@on_soft_delete' in ('anonymize', 'soft') then
        update "@users_table" as target
        set ("@soft_removed_columns") = row('@soft_removed_values')
        where target."@key" = any(soft_deleted::"@key_type"[]) and ('@is_user_row') and ('@is_soft_removed') is not true;
    end if;
end;
$usersync$;
comment on function usersync.remove_users(uuid[]) is
    'usersync: applies on_delete and on_soft_delete to the rows of deleted users.';
