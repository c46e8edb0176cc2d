-- Records what has become of these users' rows in this statement. user_ids and stored: the rows before it, see
-- user_rows. Raises nothing.
--
-- A row that was not there before, and that this transaction has inserted, is new. Another session may have inserted it
-- meanwhile, and then records it.
--
-- user.created: the row was inserted. After a sign-up also if the application's trigger has inserted it. user.updated:
-- mirrored columns have changed. user.deleted: the user was deleted in the auth server. how says what was done to the
-- row: hard (deleted), anonymized, soft (marked as deleted), kept.
create or replace function usersync.record_row_changes(
    ids uuid[], user_ids uuid[], stored jsonb[], more jsonb, fired_by text, applied_deletions boolean
) returns void
language plpgsql
set search_path = pg_catalog, "@pinned"
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $usersync$
#variable_conflict use_column
declare
    with_values boolean := usersync.records_user_events(true);
    is_deleting boolean := applied_deletions and fired_by in ('UPDATE', 'DELETE');
    created uuid[];
    transaction_id bigint := pg_current_xact_id()::text::bigint;
    changes record;
begin
    created := array(
        select target."@key"::uuid from "@users_table" as target
        where target."@key" = any(record_row_changes.ids::"@key_type"[]) and ('@is_user_row')
            and target."@key"::uuid <> all(coalesce(record_row_changes.user_ids, '{}'))
            and (
                fired_by = 'INSERT'
                or usersync.transaction_status(target.xmin, transaction_id) = 'in progress'
            )
            and (
                select source."deleted_at" is null from "@source_table" as source where source."id" = target."@key"::uuid
            )
    );
    perform usersync.record_created_users(created, more, fired_by);
    if cardinality(user_ids) > 0 then
        for changes in
            select changed.action, changed.is_linked, array_agg(changed.user_id) as ids, array_agg(changed.detail) as details
            from (
                select
                    compared.user_id,
                    case when compared.is_alive then 'user.updated' else 'user.deleted' end as action,
                    compared.now_stored is not null as is_linked,
                    case
                        when not compared.is_alive then jsonb_build_object('metadata', jsonb_build_object(
                            'how', case
                                when compared.now_stored is null then 'hard'
                                when compared.now_stored = compared.was_stored then 'kept'
                                when compared.policy = 'soft' then 'soft'
                                else 'anonymized'
                            end,
                            'auth_user', case when compared.is_soft_deleted then 'soft_deleted' else 'deleted' end
                        ))
                        else (
                            select jsonb_build_object('metadata', jsonb_build_object(
                                'columns', jsonb_agg(entry.key order by entry.key)
                            )) || case when with_values then jsonb_build_object('changes', jsonb_object_agg(
                                entry.key, case when entry.key = any(array['@secret_columns']::text[])
                                    then '["[redacted]", "[redacted]"]'
                                    else jsonb_build_array(entry.value, compared.now_stored -> entry.key)
                                end
                            )) else '{}' end
                            from jsonb_each(compared.was_stored) as entry
                            where entry.key = any(array['@mirrored_columns']::text[])
                                and entry.value is distinct from compared.now_stored -> entry.key
                            having count(*) > 0
                        )
                    end as detail
                from (
                    select
                        was.user_id,
                        was.stored as was_stored,
                        new_row.stored as now_stored,
                        coalesce(source.is_alive, false) as is_alive,
                        source.is_alive is not null as is_soft_deleted,
                        case when source.is_alive is null then '@on_delete' else '@on_soft_delete' end as policy
                    from unnest(user_ids, stored) as was (user_id, stored)
                    left join lateral (
                        select '@mapped_row' as stored from "@users_table" as target
                        where target."@key" = was.user_id::"@key_type" offset 0
                    ) as new_row on true
                    left join lateral (
                        select source."deleted_at" is null as is_alive from "@source_table" as source
                        where source."id" = was.user_id offset 0
                    ) as source on true
                ) as compared
                where case
                    when compared.is_alive then compared.now_stored is not null
                    when not applied_deletions then false
                    when compared.now_stored is null then compared.policy = 'delete'
                    when compared.now_stored <> compared.was_stored then compared.policy in ('anonymize', 'soft')
                    else is_deleting and compared.policy = 'keep'
                end
            ) as changed
            where changed.detail is not null
            group by changed.action, changed.is_linked
        loop
            perform usersync.record_user_events(changes.action, changes.ids, changes.details, changes.is_linked, fired_by);
        end loop;
    end if;
exception when others or assert_failure then
    raise warning 'usersync: the events of % user(s) were not recorded: % %', cardinality(ids), sqlstate, sqlerrm
        using detail = concat('Users: ', left(array_to_string(ids, ', '), 1000)), hint = 'Run "usersync doctor".';
end;
$usersync$;
comment on function usersync.record_row_changes(uuid[], uuid[], jsonb[], jsonb, text, boolean) is
    'usersync: records events for what has become of the rows of these users.';
