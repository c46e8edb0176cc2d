-- Whether the rows of all living users are as they should be and the failures table is empty, in one pass over each table:
-- what a run finds nearly always, for a fifth of what going through the pages costs. Where they are not, or that cannot
-- be said, the pages say what differs; then only in_step is good. Raises for nothing that the pages would not raise for.
--
-- Of each row there is a digest, and both sides have the same rows if their digests add up to the same. A digest is
-- seeded with the row's key, or two rows that have swapped a value would add up to the same; and anew each time, or
-- somebody could choose names that do. By chance they do once in 2^64.
--
-- A row that a deletion has left is in no sum. If it belongs to a living user, that user is in one, and the sums differ.
-- Where a row says itself whether it is such a row, nothing asks for its owner, and the planner leaves out that join. Rows
-- of deleted users that do not say so are found by a second look, where there are more rows than users, and leave the sum.
-- enable_mergejoin: a merge join would go through both tables in the order of the primary keys, which is no order on the
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
    ours record;
    theirs record;
    dead record;
begin
    in_step := false;
    if exists (select from usersync.sync_failures) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where judged.is_current) as living,
        coalesce(sum(hash_record_extended(row('@stored_auth_values'), seed # uuid_hash_extended(target."@key"::uuid, seed)))
            filter (where judged.is_current), 0) as digests
    into ours
    from "@users_table" as target
    left join "@source_table" as owner on target."@key" = owner."id"::"@key_type" and owner."deleted_at" is null
    cross join lateral (select '@is_current') as judged (is_current)
    where target."@key" is not null and ('@is_user_row');
    -- A first run is not to wait for the digests of all who have no row.
    if ours.living = 0 and '@expects_everybody' and exists (select from "@source_table" as source where source."deleted_at" is null) then
        return;
    end if;
    select
        count(*) as rows,
        count(*) filter (where source."deleted_at" is null) as living,
        count(*) filter (where source."deleted_at" is null and judged.is_compared is not true) as skipped,
        coalesce(sum(hash_record_extended(row('@source_auth_values_alone'), seed # uuid_hash_extended(source."id", seed)))
            filter (where source."deleted_at" is null and judged.is_compared), 0) as digests
    into theirs
    from "@source_table" as source
    left join "@users_table" as target on target."@key" = source."id"::"@key_type" and ('@is_user_row')
    cross join lateral (select '@is_compared') as judged (is_compared);
    if ours.digests <> theirs.digests and ours.living <= theirs.living - theirs.skipped then
        return;  -- Some living user has no row, or another than that user should have.
    end if;
    examined := theirs.rows;
    orphaned := 0;
    deleted_upstream := 0;
    if ours.digests <> theirs.digests or ours.rows > ours.living then
        select
            count(*) filter (where owner."id" is null) as without_user,
            count(*) filter (where owner."id" is null and ('@is_removed') is not true) as orphaned,
            count(*) filter (where owner."id" is not null and ('@is_soft_removed') is not true) as deleted_upstream,
            coalesce(sum(hash_record_extended(
                row('@stored_auth_values'), seed # uuid_hash_extended(target."@key"::uuid, seed)
            )) filter (where '@is_taken_for_current'), 0) as digests
        into dead
        from "@users_table" as target
        left join "@source_table" as owner on target."@key" = owner."id"::"@key_type"
        where target."@key" is not null and ('@is_user_row') and (owner."id" is null or owner."deleted_at" is not null);
        examined := examined + dead.without_user;
        orphaned := dead.orphaned;
        deleted_upstream := dead.deleted_upstream;
        ours.digests := ours.digests - dead.digests;
    end if;
    in_step := ours.digests = theirs.digests;
    users := ours.rows;
    auth_users := theirs.living;
    skipped := theirs.skipped;
exception
    -- A type that has no hash; a disk, or what may be written to it, too small for a join.
    when undefined_function or insufficient_resources then
        in_step := false;
end;
$usersync$;
comment on function usersync.compare_tables() is
    'usersync: whether the rows of all living users are as they should be, in one pass over each table.';
