-- Compares both tables in one pass over each. in_step is true if every auth user has the row that the mapping asks for
-- and the failures table is empty. That is the usual result of a run, and the comparison takes a fifth of the time that
-- the pages take. If in_step is false, the other results are not valid, and the pages find what differs. Raises no
-- error that the pages would not raise.
--
-- Each row has a digest. The tables agree if the sums of the digests are equal. The row's key seeds the digest: without
-- it, two rows that have swapped a value would have the same sum. A random number seeds it too, so that a user cannot
-- choose values with equal digests. The chance of a false match is 1 in 2^64.
--
-- Rows of deleted users are in neither sum. Where a column of the row says that its user is deleted, the planner can
-- leave out the join with the auth server's table. Other rows of deleted users are subtracted by a second query, which
-- runs only if there are more rows than users.
--
-- enable_mergejoin: a merge join would read both tables in the order of their primary keys, which is not their order on
-- disk.
create or replace function usersync.compare_tables(
    out in_step boolean, out examined bigint, out auth_users bigint, out users bigint, out orphaned bigint,
    out deleted_upstream bigint, out skipped bigint
)
language plpgsql stable
set search_path = pg_catalog, "@pinned"
set enable_mergejoin = off
as $usersync$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    seed bigint := hashtextextended(gen_random_uuid()::text, 0);
    user_rows record;
    auth_rows record;
    deleted_rows record;
begin
    in_step := false;
    if exists (select from usersync.sync_failures) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where judged.is_current) as current,
        coalesce(sum(hash_record_extended(row('@stored_auth_values'), seed # uuid_hash_extended(target."@key"::uuid, seed)))
            filter (where judged.is_current), 0) as digests
    into user_rows
    from "@users_table" as target
    left join "@source_table" as owner on target."@key" = owner."id"::"@key_type" and owner."deleted_at" is null
    cross join lateral (select '@is_current') as judged (is_current)
    where target."@key" is not null and ('@is_user_row');
    -- In a first run no user has a row. The digests of all auth users would be computed for nothing.
    if user_rows.current = 0 and '@expects_everybody'
        and exists (select from "@source_table" as source where source."deleted_at" is null)
    then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where source."deleted_at" is null) as current,
        count(*) filter (where source."deleted_at" is null and judged.is_compared is not true) as skipped,
        coalesce(sum(hash_record_extended(row('@source_auth_values_alone'), seed # uuid_hash_extended(source."id", seed)))
            filter (where source."deleted_at" is null and judged.is_compared), 0) as digests
    into auth_rows
    from "@source_table" as source
    left join "@users_table" as target on target."@key" = source."id"::"@key_type" and ('@is_user_row')
    cross join lateral (select '@is_compared') as judged (is_compared);
    if user_rows.digests <> auth_rows.digests and user_rows.current <= auth_rows.current - auth_rows.skipped then
        return;  -- An auth user has no row, or a row with other values.
    end if;
    examined := auth_rows.rows;
    orphaned := 0;
    deleted_upstream := 0;
    if user_rows.digests <> auth_rows.digests or user_rows.rows > user_rows.current then
        select
            count(*) filter (where owner."id" is null) as without_user,
            count(*) filter (where owner."id" is null and ('@is_removed') is not true) as orphaned,
            count(*) filter (where owner."id" is not null and ('@is_soft_removed') is not true) as deleted_upstream,
            coalesce(sum(hash_record_extended(
                row('@stored_auth_values'), seed # uuid_hash_extended(target."@key"::uuid, seed)
            )) filter (where '@is_taken_for_current'), 0) as digests
        into deleted_rows
        from "@users_table" as target
        left join "@source_table" as owner on target."@key" = owner."id"::"@key_type"
        where target."@key" is not null and ('@is_user_row') and (owner."id" is null or owner."deleted_at" is not null);
        examined := examined + deleted_rows.without_user;
        orphaned := deleted_rows.orphaned;
        deleted_upstream := deleted_rows.deleted_upstream;
        user_rows.digests := user_rows.digests - deleted_rows.digests;
    end if;
    in_step := user_rows.digests = auth_rows.digests;
    users := user_rows.rows;
    auth_users := auth_rows.current;
    skipped := auth_rows.skipped;
exception
    -- A type without a hash function, or too little disk space for a join.
    when undefined_function or insufficient_resources then
        in_step := false;
end;
$usersync$;
comment on function usersync.compare_tables() is 'usersync: compares both tables in one pass over each.';
