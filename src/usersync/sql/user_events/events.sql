(
    select
        (recording.id_prefix || substr(gen_random_uuid()::text, 16))::uuid as id,
        recording.occurred_at as occurred_at,
        now() as recorded_at,
        recording.action as action,
        'succeeded' as outcome,
        recording.actor_id as actor_id,
        recording.actor_type as actor_type,
        case when recording.is_linked then changed.user_id end as user_id,
        'user' as entity_type,
        changed.user_id::text as entity_id,
        changed.detail -> 'changes' as changes,
        recording.metadata || coalesce(changed.detail -> 'metadata', '{}') as metadata,
        recording.request_id as request_id,
        recording.ip as ip,
        recording.user_agent as user_agent,
        'sync' as source,
        recording.tenant_id as tenant_id,
        recording.on_behalf_of as on_behalf_of,
        session_user::text as db_role,
        recording.traceparent as traceparent,
        '@severity_of_user_event'::text as severity
    from unnest(recording.ids, recording.details) as changed (user_id, detail)
)
