-- What on_delete makes of rows whose user is gone from the auth server's table, by DELETE or by its soft
-- delete. Touches no row of a user who is there.
create or replace function usersync.remove_users(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    if '@on_delete' = 'keep' then
        return;
    end if;
    -- Once the rows are held, a statement of its own sees what the auth server's table holds by now. Whoever has
    -- just referenced a row does not stand in the way of emptying it.
    perform from "@users_table" as target where target."@key" = any(remove_users.ids) for no key update;

    if '@on_delete' = 'delete' then
        perform usersync.refuse_users_with_many_events(remove_users.ids);
        delete from "@users_table" as target
        where target."@key" = any(remove_users.ids)
            and (
                select true from "@source_table" as source
                where source."id" = target."@key" and source."deleted_at" is null
            ) is null;
        return;
    end if;
    update "@users_table" as target
    set ("@removed_columns") = row('@removed_values')
    where target."@key" = any(remove_users.ids)
        and (
            select true from "@source_table" as source
            where source."id" = target."@key" and source."deleted_at" is null
        ) is null
        and ('@is_removed') is not true;
end;
$usersync$;
comment on function usersync.remove_users(uuid[]) is
    'usersync: applies on_delete to the rows of users who are gone.';
