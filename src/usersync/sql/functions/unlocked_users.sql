-- The users whose rows no other session has locked. Empty if the table itself is locked.
create or replace function usersync.unlocked_users(ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    held uuid[];
begin
    lock table "@users_table" in row exclusive mode nowait;
    held := array(
        select source."id" from "@source_table" as source where source."id" = any(unlocked_users.ids)
        except (
            select held_now."id"
            from (
                select source."id" from "@source_table" as source
                where source."id" = any(unlocked_users.ids) for key share skip locked
            ) as held_now
        )
    ) || array(
        select target."@key"::uuid from "@users_table" as target where target."@key" = any(unlocked_users.ids::"@key_type"[])
        except (
            select held_now."@key"::uuid
            from (
                select target."@key" from "@users_table" as target
                where target."@key" = any(unlocked_users.ids::"@key_type"[]) for no key update skip locked
            ) as held_now
        )
    );
    return array(select unnest(ids) except select unnest(held));
exception when others then
    return '{}'::uuid[];
end;
$usersync$;
comment on function usersync.unlocked_users(uuid[]) is 'usersync: the users whose rows no other session has locked.';
