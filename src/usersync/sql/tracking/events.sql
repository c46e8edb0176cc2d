(
    select
        '@id' as id,
        tracking.occurred_at as occurred_at,
        now() as recorded_at,
        '@action' as action,
        'succeeded' as outcome,
        tracking.actor_id as actor_id,
        tracking.actor_type as actor_type,
        tracking.user_id as user_id,
        '@entity_type' as entity_type,
        changed.entity_id as entity_id,
        changed.changes as changes,
        '@metadata' as metadata,
        tracking.request_id as request_id,
        tracking.ip as ip,
        tracking.user_agent as user_agent,
        'trigger' as source,
        tracking.tenant_id as tenant_id,
        tracking.on_behalf_of as on_behalf_of,
        session_user::text as db_role,
        left(nullif(tracking.passed ->> 'traceparent', ''), 200) as traceparent,
        '@severity'::text as severity
    from "@changed"
)
