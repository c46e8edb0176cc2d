-- The one way into the users table, but for the one INSERT that nearly every sign-up is done with (handle_new_user).
-- Brings the rows of these users in line with the auth server's table and raises for nothing that the application's
-- schema can do. Called by the triggers in the auth server's own session, and by everything else as the owner.
--
-- fired_by: the operation of the trigger that calls, PAGE for the reconciler, or null for an explicit call. What the
-- calling statement has itself written to the auth server's table is nobody else's to change before it ends, so
-- triggers copy it as it stands; everybody else has to take care. Users whom it has inserted are new to the ledger,
-- so there is no look into it.
--
-- own_transaction: whether the transaction is usersync's alone and ends with this call. The caller has to know: in an
-- explicit call within an application's transaction, deferred checks wait for the application's COMMIT.
--
-- applies_deletions: whether the rows of deleted users become what on_delete and on_soft_delete make of them. True
-- where a deletion was seen, or somebody asks for it; else such rows, and failures to remove them, stay as they are.
--
-- enable_seqscan: a plan that was made while the tables were empty would be kept while they grow.
create or replace function usersync.sync_users(
    ids uuid[], fired_by text, own_transaction boolean, applies_deletions boolean default false
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
set enable_seqscan = off
as $usersync$
#variable_conflict use_column
declare
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
    written bigint;
    -- Whether deferred checks are made here and now.
    checks_constraints boolean := own_transaction or coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false);
    has_triggers boolean;
    unlike uuid[] := '{}'::uuid[];
    half integer;
    unlocked uuid[];
begin
    if ids is null or cardinality(ids) = 0 then
        return;
    end if;
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once, which is all that a sign-up is held up for.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    if fired_by in ('UPDATE', 'DELETE') then
        perform set_config('usersync.has_changed_users', 'yes', true);
    end if;
    begin
        written := usersync.write_rows(ids, held => coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false));
        if applies_deletions and written < cardinality(ids) then
            perform usersync.remove_users(ids);
        end if;
        -- What is deferred to COMMIT would fail the sign-up there, out of reach of this block: constraints of the
        -- users table, and of whatever a trigger or a cascade has written to. In an application's transaction
        -- its own pending checks would fail here, before it is done; there, COMMIT is where it expects them.
        if checks_constraints then
            set constraints all immediate;
        end if;
        has_triggers := exists (
            select from pg_trigger where tgrelid = '@users_table'::regclass and not tgisinternal
        ) or exists (select from pg_inherits where inhparent = '@users_table'::regclass);
        -- Where all was written and nobody else has a hand in it, there is nothing to look for.
        if has_triggers or written < cardinality(ids) then
            unlike := usersync.note_unlike_users(ids, applies_deletions);
        end if;
        if fired_by is distinct from 'INSERT' then
            begin
                delete from usersync.sync_failures as failure
                where failure.user_id = any(sync_users.ids) and failure.user_id <> all(unlike)
                    and (applies_deletions or failure.kind <> 'removal' or usersync.is_alive(failure.user_id));
            exception when others then
                null;  -- A ledger that is locked or gone makes no row wrong; the next reconciling run looks again.
            end;
        end if;
        return;
    exception
        -- "others" leaves out two: a failed ASSERT, which an application's trigger may well raise, and
        -- query_canceled, which is somebody's wish and is obeyed.
        when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
    end;

    half := cardinality(ids) / 2;
    perform set_config('usersync.checks_constraints', checks_constraints::text, true);
    if reason = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    if half > 0 and reason = '55P03' then
        -- Somebody holds some of the rows. The others need not wait with them.
        unlocked := usersync.unlocked_users(ids);
        if cardinality(unlocked) between 1 and cardinality(ids) - 1 then
            perform usersync.sync_users(unlocked, fired_by, own_transaction, applies_deletions);
            ids := array(select unnest(ids) except select unnest(unlocked));
        end if;
    elsif half > 0 and (
        left(reason, 2) not in ('0A', '42', '53', '57', '58', 'XX') or usersync.raised_below(error_context) is not null
    ) then
        -- Some row's fault, then, and not the schema's: find it, and let the others through.
        perform usersync.sync_users(ids[:half], fired_by, own_transaction, applies_deletions);
        perform usersync.sync_users(ids[half + 1:], fired_by, own_transaction, applies_deletions);
        return;
    end if;
    if not applies_deletions then
        ids := array(select id from unnest(ids) as id where usersync.is_alive(id));
    end if;
    if cardinality(ids) = 0 then
        return;
    end if;
    perform usersync.degrade_users(
        ids, reason, nullif(failed_constraint, ''), nullif(failed_column, ''), error_message, error_context
    );
end;
$usersync$;
comment on function usersync.sync_users(uuid[], text, boolean, boolean) is
    'usersync: brings the rows of these users in line; what cannot be written goes to usersync.sync_failures.';
