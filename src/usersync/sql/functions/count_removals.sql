-- How many rows on_delete would be applied to by a reconciling run, out of how many, and how many may be.
-- An empty or half-restored auth server's table would otherwise take everybody with it.
create or replace function usersync.count_removals(
    out removals bigint, out users bigint, out auth_users bigint, out allowed bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    select
        count(*) filter (where source."id" is null and ('@is_removed') is not true),
        count(*)
    into count_removals.removals, count_removals.users
    from "@users_table" as target
    left join "@source_table" as source on source."id" = target."@key" and source."deleted_at" is null
    -- A row that was never linked to a user has none to lose.
    where target."@key" is not null;
    count_removals.auth_users := (select count(*) from "@source_table");
    count_removals.allowed := greatest(10, floor(count_removals.users * '@removal_cap'::numeric));
end;
$usersync$;
comment on function usersync.count_removals() is
    'usersync: how many rows belong to users who are gone, and how many a run may remove.';
