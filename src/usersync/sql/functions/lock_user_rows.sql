-- Locks the rows of these users against deletion until the transaction ends, and returns the ids of the locked rows.
-- Null if the table itself cannot be locked. Waits shortly for a row that another session has locked, and then locks
-- the other rows without it. Raises nothing.
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
        -- Above READ COMMITTED: the key of a row was changed after the snapshot. The other rows can be locked.
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
comment on function usersync.lock_user_rows(uuid[]) is 'usersync: locks the rows of these users against deletion.';
