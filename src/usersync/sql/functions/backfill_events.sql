-- The events of existing users with these numbers, in the form of usersync.read_events(). A user who no longer exists has
-- no event. The events are not in the audit log: each is made from the user's row when it is read.
create or replace function usersync.backfill_events(subscription text, after bigint, until bigint) returns jsonb
language plpgsql stable
set search_path = pg_catalog, "@pinned"
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
begin
    return (
        select coalesce(jsonb_agg(to_jsonb(event) order by event.number), '[]')
        from (
            select
                listed.number,
                -- The id is the same in each attempt, and differs between backfills.
                left(encode(sha256(convert_to(concat_ws(
                    ' ', backfill.subscription, backfill.requested_at, listed.user_id
                ), 'UTF8')), 'hex'), 32)::uuid as id,
                coalesce(source."created_at", backfill.requested_at) as occurred_at,
                backfill.requested_at as recorded_at,
                'user.created' as action,
                'succeeded' as outcome,
                null as actor_id,
                'system' as actor_type,
                listed.user_id,
                'user' as entity_type,
                listed.user_id::text as entity_id,
                null as changes,
                jsonb '{"backfill": true, "origin": "backfill"}' as metadata,
                null as request_id,
                null as ip,
                null as user_agent,
                'sync' as source,
                null as tenant_id,
                null as on_behalf_of,
                null as db_role,
                null as traceparent,
                '@severity_of_new_user'::text as severity,
                listed.user_id::text as tie
            from usersync.backfill_events as listed
            join usersync.backfills as backfill on backfill.subscription = listed.subscription
            join "@source_table" as source on source."id" = listed.user_id and source."deleted_at" is null
            join "@users_table" as target on target."@key" = listed.user_id::"@key_type" and ('@is_user_row')
            where listed.subscription = backfill_events.subscription
                and listed.number > backfill_events.after and listed.number <= backfill_events.until
        ) as event
    );
end;
$usersync$;
comment on function usersync.backfill_events(text, bigint, bigint) is
    'usersync: the events of existing users for a subscription.';
