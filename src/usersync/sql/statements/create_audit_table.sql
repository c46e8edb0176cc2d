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
        -- The type usersync.audit_event checks events. These checks are for triggers that insert rows themselves, and
        -- for a table that stays after a rollback.
        create table "@audit_table" (
            id uuid not null,
            occurred_at timestamptz not null,
            recorded_at timestamptz not null default now(),
            action text collate "C" not null check (length(action) between 1 and 200),
            outcome text collate "C" not null check (outcome in ('succeeded', 'failed', 'denied')),
            actor_id text collate "C" check (length(actor_id) <= 200),
            actor_type text collate "C" not null check (actor_type in ('user', 'service', 'system', 'anonymous')),
            user_id "@key_type" references "@users_table" ("@key") on delete set null,
            entity_type text collate "C" check (length(entity_type) <= 200),
            entity_id text collate "C" check (length(entity_id) <= 200),
            changes jsonb,
            metadata jsonb not null default '{}',
            request_id text collate "C" check (length(request_id) <= 200),
            ip inet,
            user_agent text,
            source text collate "C" not null check (source in ('app', 'trigger', 'sync')),
            -- With this key a batch that is sent twice is stored once. It contains the time because the table is
            -- partitioned by time.
            primary key (id, occurred_at)
        ) partition by range (occurred_at);
        comment on table "@audit_table" is
            'The audit log, made by usersync: what happened, who did it (actor_id, a fact that stays) and the '
            'same person as a link (user_id). Append-only. Written by public.record_audit_events.';

        create index on "@audit_table" (user_id, occurred_at) where user_id is not null;
        create index on "@audit_table" (actor_id, occurred_at);
        create index on "@audit_table" (entity_type, entity_id, occurred_at);
        create index on "@audit_table" (action, occurred_at);
        create index on "@audit_table" (request_id) where request_id is not null;
        create index on "@audit_table" (occurred_at);
        -- For readers that follow the log. It is small, because rows are stored in the order of recorded_at.
        create index on "@audit_table" using brin (recorded_at) with (pages_per_range = 16, autosummarize = on);
    elsif coalesce(obj_description(log, 'pg_class'), '') not like 'The audit log, made by usersync: %'
        or (select relkind <> 'p' from pg_class where oid = log)
    then
        return;
    end if;

    if not (select relrowsecurity from pg_class where oid = to_regclass('@audit_table')) then
        alter table "@audit_table" enable row level security;
    end if;
    revoke all on table "@audit_table" from public;
    if to_regrole('anon') is not null and to_regrole('authenticated') is not null then
        revoke all on table "@audit_table" from anon, authenticated;
    end if;
    if to_regrole('service_role') is not null then
        revoke all on table "@audit_table" from service_role;
        grant select on table "@audit_table" to service_role;
        -- The grants allow the same. Without a policy, Supabase's advisor reports a table with row-level security and
        -- no policy (lint 0008). With one for anon or authenticated it reports anonymous sign-ins (lint 0012).
        if not exists (
            select from pg_policy
            where polrelid = to_regclass('@audit_table') and polname = 'Only the service role reads the log'
                and polroles = array[to_regrole('service_role')::oid] and polcmd = 'r'
        ) then
            drop policy if exists "Only the service role reads the log" on "@audit_table";
            create policy "Only the service role reads the log" on "@audit_table" for select to service_role
                using (true);
        end if;
    end if;

    -- The partitions that a rollback has left with the audit log. leave_partitions.sql explains their names.
    for partition, usual_name in
        select inhrelid, substring(relname from '^(audit_logs_(?:default|[0-9]{4}_[0-9]{2}))(?:_[0-9]+)?$')
        from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('@audit_table') and relnamespace <> 'usersync'::regnamespace
            and relname ~ '^audit_logs_(default|[0-9]{4}_[0-9]{2})(_[0-9]+)?$'
    loop
        execute format('alter table %s set schema usersync', partition);
        if (select relname <> usual_name from pg_class where oid = partition) then
            execute format('alter table %s rename to %I', partition, usual_name);
        end if;
    end loop;
    if not exists (
        select from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = to_regclass('@audit_table') and pg_get_expr(relpartbound, pg_class.oid) = 'DEFAULT'
    ) then
        -- Partitions are in the schema usersync, which the Data API does not expose.
        create table usersync.audit_logs_default partition of "@audit_table" default;
    end if;
    -- The view makes DROP TABLE without CASCADE fail. It names no column, so that ALTER TABLE still works.
    create or replace view usersync.audit_logs_guard with (security_invoker = true) as select from "@audit_table";
    comment on view usersync.audit_logs_guard is
        'usersync: depends on the audit log, so that DROP TABLE without CASCADE fails. Holds nothing.';
    create or replace trigger keep_audit_logs before update or delete on "@audit_table"
        for each row execute function usersync.keep_audit_logs();
    perform usersync.guard_audit_partitions();
    -- For a year, because nothing may be written for months, or the default partition may become too large for new
    -- partitions.
    perform usersync.make_audit_partitions(12);
end;
$usersync$;
