-- Keeps a log that usersync created closed to the Data API and append-only, and its partitions complete. Runs after
-- alter_audit_table.sql. Any other table stays as it is.
do $usersync$
declare
    log regclass := '@audit_log';
    partition regclass;
    usual_name text;
    reader record;
begin
    if coalesce(obj_description(log, 'pg_class'), '') not like 'The audit log, made by usersync: %'
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
        for reader in
            select * from jsonb_to_recordset('@audit_readers')
                as named (policy text, condition text, comment text, enabled boolean)
        loop
            execute format('drop policy if exists %I on %s', reader.policy, log);
            if reader.enabled then
                execute (
                    select format('grant select (%s) on table %s to authenticated', string_agg(quote_ident(name), ', '), log)
                    from unnest(array['@readable_columns']) as name
                );
                execute format('create policy %I on %s for select to authenticated using (%s)',
                    reader.policy, log, reader.condition);
                execute format('comment on policy %I on %s is %L', reader.policy, log, reader.comment);
            end if;
        end loop;
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
    -- partitions. In a rehearsal, which creates the log once for each flow, events go to the default partition.
    if coalesce(current_setting('usersync.is_rehearsal', true), '') <> 'yes' then
        perform usersync.make_audit_partitions(12);
    end if;
end;
$usersync$;
