-- What the audit log keeps for itself.

create table if not exists usersync.audit_rejects (
    reject_id bigint generated always as identity primary key,
    event jsonb not null,
    sqlstate text not null,
    reason text not null,
    rejected_at timestamptz not null default now()
);
comment on table usersync.audit_rejects is
    'Events that could not be stored because of what they contain, each with the reason. Nothing is lost: '
    'mend the event and hand it to public.record_audit_events again.';
