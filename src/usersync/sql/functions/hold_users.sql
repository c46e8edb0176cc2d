-- Holds the rows of these users against deletion until the transaction ends, and says whose it holds; null
-- where the table cannot be had at all. A row that somebody else holds is waited for, shortly, and the others
-- are held without it then. Raises nothing.
create or replace function usersync.hold_users(ids uuid[], out held uuid[], out problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
declare
    one uuid;
begin
    held := array(
        select target."@key"::uuid from "@users_table" as target
        where target."@key" = any(hold_users.ids::"@key_type"[]) for key share
    );
exception when others or assert_failure then
    problem := sqlstate || ' ' || sqlerrm;
    if sqlstate = '40001' then
        -- Above READ COMMITTED, a key of somebody's row was changed since the snapshot. The others can be held.
        held := '{}'::uuid[];
        foreach one in array ids loop
            begin
                held := held || array(
                    select target."@key"::uuid from "@users_table" as target
                    where target."@key" = one::"@key_type" for key share skip locked
                );
            exception when others then
                continue;
            end;
        end loop;
        return;
    end if;
    begin
        lock table "@users_table" in row share mode nowait;
        held := array(
            select target."@key"::uuid from "@users_table" as target
            where target."@key" = any(hold_users.ids::"@key_type"[]) for key share skip locked
        );
    exception when others then
        held := null;
    end;
end;
$usersync$;
comment on function usersync.hold_users(uuid[]) is
    'usersync: holds the rows of these users, as far as they can be had.';
