-- Creates the audit log if it is missing and the settings ask for one. A log that usersync created stays closed to the
-- Data API and append-only, and is used again if a rollback has left it. Any other existing table stays as it is.
do $usersync$
declare
    log regclass := '@audit_log';
    partition regclass;
    usual_name text;
begin
    if log is null and not '@creates_audit_log' then
        return;
    end if;
    if log is null and to_regclass('@audit_table') is not null then
        raise exception 'the audit log cannot be created: another table has the name %', '@audit_table'
            using errcode = 'duplicate_table', hint = 'Set [audit] table to another name in usersync.toml.';
    end if;
    if log is null then
        create schema if not exists "@audit_schema";
        -- No CHECK constraints: the type usersync.audit_event checks the values of an event, in the functions that
        -- are the only way in. PostgreSQL prepares a CHECK anew for each statement, which doubled the time of an INSERT.
        create table "@audit_table" (
            id uuid not null,
            occurred_at timestamptz not null,
            recorded_at timestamptz not null default now(),
            action text collate "C" not null,
            outcome text collate "C" not null,
            actor_id text collate "C",
            actor_type text collate "C" not null,
            -- on update: a foreign key of the users table that empties the key updates it.
            user_id "@key_type" references "@users_table" ("@key") on update set null on delete set null,
            entity_type text collate "C",
            entity_id text collate "C",
            changes jsonb,
            metadata jsonb not null default '{}',
            request_id text collate "C",
            ip inet,
            user_agent text,
            source text collate "C" not null,
            -- With this key a batch that is sent twice is stored once. It contains the time because the table is
            -- partitioned by time.
            primary key (id, occurred_at)
        ) partition by range (occurred_at);
        comment on table "@audit_table" is
            'The audit log, made by usersync: what happened, who did it (actor_id, a fact that stays) and the '
            'same person as a link (user_id). Append-only. Written by public.record_audit_events.';
    end if;
end;
$usersync$;
