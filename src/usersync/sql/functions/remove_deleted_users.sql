-- For an explicit request: applies on_delete to the rows of those users who no longer exist in the auth server's table
-- (kind orphaned), or on_soft_delete to the rows of those whom it has soft-deleted (kind deleted_upstream). removed:
-- how many rows are now as the setting wants them. failed: how many could not be changed; they are in the failures
-- table.
create or replace function usersync.remove_deleted_users(
    ids uuid[], kind text, out removed bigint, out failed bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    ids := array(
        select wanted.id
        from unnest(remove_deleted_users.ids) as wanted (id)
        left join "@source_table" as source on source."id" = wanted.id
        where case remove_deleted_users.kind
            when 'orphaned' then source."id" is null
            when 'deleted_upstream' then source."deleted_at" is not null
        end
    );
    perform usersync.sync_on_request(ids, null, true);
    remove_deleted_users.failed := (
        select count(*) from usersync.sync_failures as failure
        where failure.user_id = any(ids) and failure.kind = 'removal'
    );
    remove_deleted_users.removed := cardinality(ids) - remove_deleted_users.failed;
end;
$usersync$;
comment on function usersync.remove_deleted_users(uuid[], text) is
    'usersync: applies on_delete or on_soft_delete to the rows of deleted users, on request.';
