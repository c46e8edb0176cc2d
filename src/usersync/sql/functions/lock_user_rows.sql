-- Locks the rows of these users against deletion until the transaction ends, and says whose it holds; null
-- where the table cannot be had at all. A row that somebody else holds is waited for, shortly, and the others
-- are locked without it then. Raises nothing.
create or replace function usersync.lock_user_rows(ids uuid[], out locked_ids uuid[], out problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
declare
    one uuid;
begin
    locked_ids := array(
        select target."@key"::uuid from "@users_table" as target
        where target."@key" = any(lock_user_rows.ids::"@key_type"[]) for key share
    );
exception when others or assert_failure then
    problem := sqlstate || ' ' || sqlerrm;
    if sqlstate = '40001' then
        -- Above READ COMMITTED, a key of somebody's row was changed since the snapshot. The others can be locked.
        locked_ids := '{}'::uuid[];
        foreach one in array ids loop
            begin
                locked_ids := locked_ids || array(
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
        locked_ids := array(
            select target."@key"::uuid from "@users_table" as target
            where target."@key" = any(lock_user_rows.ids::"@key_type"[]) for key share skip locked
        );
    exception when others then
        locked_ids := null;
    end;
end;
$usersync$;
comment on function usersync.lock_user_rows(uuid[]) is
    'usersync: holds the rows of these users, as far as they can be had.';
