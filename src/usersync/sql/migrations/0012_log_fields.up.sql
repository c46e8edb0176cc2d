-- What the second form of the audit log needs: more fields of an event, and the sequence that orders events. The log
-- itself is altered by statements/alter_audit_table.sql, because it may be created, or adopted again, later.

create table if not exists usersync.audit_holds (
    hold_id bigint generated always as identity primary key,
    tenant_id text,
    entity_type text,
    entity_id text,
    reason text not null,
    created_at timestamptz not null default now(),
    created_by text not null default session_user,
    constraint holds_a_tenant_or_an_entity check (
        (tenant_id is not null) <> (entity_type is not null) and (entity_id is null or entity_type is not null)
    )
);
comment on table usersync.audit_holds is
    'Legal holds: events of these tenants and entities are neither pruned nor erased.';

do $usersync$
begin
    if to_regtype('usersync.event_severity') is null then
        create domain usersync.event_severity as text
            constraint is_info_low_medium_high_or_critical
                check (value in ('info', 'low', 'medium', 'high', 'critical'));
    end if;
    if not exists (
        select from pg_attribute where attrelid = to_regclass('usersync.audit_event') and attname = 'severity'
    ) then
        alter type usersync.audit_event
            add attribute tenant_id usersync.event_name,
            add attribute on_behalf_of usersync.event_name,
            add attribute db_role usersync.event_name,
            add attribute traceparent usersync.event_name,
            add attribute severity usersync.event_severity;
    end if;
    if to_regclass('usersync.audit_log_seq') is null then
        -- It starts at the current time in microseconds: a log that a rollback has left has lower numbers.
        create sequence usersync.audit_log_seq;
        perform setval('usersync.audit_log_seq', (extract(epoch from clock_timestamp()) * 1000000)::bigint);
        comment on sequence usersync.audit_log_seq is 'The order in which events were inserted into the audit log.';
    end if;
end;
$usersync$;
