(
    select
        recording.event_id as id,
        recording.occurred_at as occurred_at,
        now() as recorded_at,
        'user.created' as action,
        'succeeded' as outcome,
        recording.actor_id as actor_id,
        recording.actor_type as actor_type,
        new."id" as user_id,
        'user' as entity_type,
        recording.entity_id as entity_id,
        null::jsonb as changes,
        recording.metadata as metadata,
        recording.request_id as request_id,
        recording.ip as ip,
        recording.user_agent as user_agent,
        'sync' as source,
        recording.tenant_id as tenant_id,
        recording.on_behalf_of as on_behalf_of,
        recording.db_role as db_role,
        recording.traceparent as traceparent,
        '@severity_of_new_user'::text as severity
)
