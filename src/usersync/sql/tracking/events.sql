(
    select
        '@id' as id,
        event.occurred_at as occurred_at,
        '@recorded_at' as recorded_at,
        '@action' as action,
        '@outcome' as outcome,
        event.actor_id as actor_id,
        event.actor_type as actor_type,
        event.user_id as user_id,
        '@entity_type' as entity_type,
        changed.entity_id as entity_id,
        changed.changes as changes,
        '@metadata' as metadata,
        event.request_id as request_id,
        event.ip as ip,
        event.user_agent as user_agent,
        '@source' as source,
        event.tenant_id as tenant_id,
        event.on_behalf_of as on_behalf_of,
        '@db_role' as db_role,
        event.traceparent as traceparent,
        '@severity' as severity
    from "@changed"
)
