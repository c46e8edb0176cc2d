-- What the audit log keeps for itself: what an event is, and those that were none.

do $usersync$
begin
    if to_regtype('usersync.audit_event') is not null then
        return;
    end if;
    -- The limits of an event. The name of a constraint is what its sender reads in usersync.audit_rejects.
    create domain usersync.event_action as text
        constraint has_1_to_200_characters check (value is not null and length(value) between 1 and 200);
    create domain usersync.event_name as text
        constraint has_at_most_200_characters check (length(value) <= 200);
    create domain usersync.event_outcome as text
        constraint is_succeeded_failed_or_denied check (value in ('succeeded', 'failed', 'denied'));
    create domain usersync.event_actor_type as text
        constraint is_user_service_system_or_anonymous check (value in ('user', 'service', 'system', 'anonymous'));
    create domain usersync.event_source as text
        constraint is_app_trigger_or_sync check (value in ('app', 'trigger', 'sync'));
    create domain usersync.event_object as jsonb
        constraint is_a_json_object check (jsonb_typeof(value) = 'object');
    -- The years that every client can read, whatever its time zone.
    create domain usersync.event_time as timestamptz
        constraint is_in_the_years_1_to_9999 check (value >= '0001-01-02 00:00Z' and value < '9999-12-31 00:00Z');

    create type usersync.audit_event as (
        id uuid,
        occurred_at usersync.event_time,
        action usersync.event_action,
        outcome usersync.event_outcome,
        actor_id usersync.event_name,
        actor_type usersync.event_actor_type,
        user_id uuid,
        entity_type usersync.event_name,
        entity_id usersync.event_name,
        changes usersync.event_object,
        metadata usersync.event_object,
        request_id usersync.event_name,
        ip inet,
        user_agent text,
        source usersync.event_source
    );
    comment on type usersync.audit_event is 'An event as public.record_audit_events takes it: a JSON object of these.';
end;
$usersync$;

do $usersync$
begin
    -- Those that a rollback left with the audit log.
    if obj_description(to_regclass(format('%s.audit_rejects', '@audit_schema')), 'pg_class')
        like 'Events that could not be stored because of what they contain%'
        and to_regclass('usersync.audit_rejects') is null
    then
        execute format('alter table %s.audit_rejects set schema usersync', '@audit_schema');
    end if;
end;
$usersync$;

create table if not exists usersync.audit_rejects (
    reject_id bigint generated always as identity primary key,
    event jsonb not null,
    sqlstate text not null,
    reason text not null,
    rejected_at timestamptz not null default now(),
    -- Of an event that has an id: sent again, it is not kept again.
    fingerprint bytea unique
);
comment on table usersync.audit_rejects is
    'Events that could not be stored because of what they contain, each with the reason. Nothing is lost: '
    'mend the event and hand it to public.record_audit_events again.';
