-- Users whose rows differ from what was written, although nothing was raised: a trigger or a rule of the application
-- has skipped, deleted or changed the row, or the column's type has cut or rounded the value. The message names the
-- triggers and rules. It ends in a digest of the written values, the stored values and the triggers: while the digest
-- stays the same, writing again has no effect. Rows of deleted users count if the deletions were applied.
create or replace function usersync.find_out_of_sync_users(
    ids uuid[], applied_deletions boolean, out user_id uuid, out sqlstate text, out column_names text, out message text
) returns setof record
language plpgsql stable
set search_path = pg_catalog, "@pinned"
as $usersync$
#variable_conflict use_column
<<known>>
declare
    defaults jsonb := usersync.column_defaults();
    triggers text;
    suspects text;
begin
    select md5(string_agg(concat_ws(' ', tgname, tgenabled, md5(prosrc)), ', ' order by tgname))
    into triggers
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '@users_table'::regclass and not tgisinternal;
    suspects := left((
        select string_agg(found.name, ', ' order by found.name) from (
            select 'trigger ' || tgname as name
            from pg_trigger
            join pg_proc on pg_proc.oid = tgfoid
            where tgrelid = '@users_table'::regclass and not tgisinternal and tgenabled <> 'D'
                and pronamespace <> 'usersync'::regnamespace
            union
            select 'rule ' || rulename from pg_rewrite where ev_class = '@users_table'::regclass and ev_type <> '1'
        ) as found
    ), 300);

    return query
    select
        examined.user_id,
        case when source."id" is not null and target."@key" is not null then 'US001' else 'US002' end,
        nullif(array_to_string(case
            when source."id" is not null and target."@key" is not null
                then array_remove(array['@differing_columns']::text[], null)
        end, ', '), ''),
        case
            when source."id" is null then
                'The auth user is deleted, but the row was not changed. Skipped by: ' || coalesce(suspects, 'unknown')
            when target."@key" is null and exists (
                select from "@users_table" as other where other."@key" = examined.user_id::"@key_type"
            ) then
                '@row_is_left_out'
            when target."@key" is null then
                'The row was written, but does not exist. Skipped or deleted by: ' || coalesce(suspects, 'unknown')
            else format(
                'The row was written, but has another value. Changed by: %s (as of %s).',
                coalesce(suspects, 'the type of the column'),
                left(md5(concat(triggers, row('@source_auth_values'), row('@stored_auth_values'))), 8)
            )
        end
    from unnest(find_out_of_sync_users.ids) as examined (user_id)
    -- LATERAL with OFFSET 0, so that each row is found by its primary key, see write_full_rows.
    left join lateral (
        select source.* from "@source_table" as source
        where source."id" = examined.user_id and source."deleted_at" is null offset 0
    ) as source on true
    left join lateral (
        select target.* from "@users_table" as target
        where target."@key" = examined.user_id::"@key_type" and ('@is_user_row') offset 0
    ) as target on true
    where case
        when source."id" is null then applied_deletions and target."@key" is not null and case
            when exists (select from "@source_table" as deleted where deleted."id" = examined.user_id)
            then ('@is_soft_removed') is not true else ('@is_removed') is not true
        end
        when target."@key" is null then '@is_expected'
        else row('@stored_auth_values') is distinct from row('@source_auth_values')
    end;
end;
$usersync$;
comment on function usersync.find_out_of_sync_users(uuid[], boolean) is
    'usersync: the users whose rows differ from what was written.';
