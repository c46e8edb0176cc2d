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
-- What the auth server's transaction needs beyond (fired by a trigger): checks that the caller has pending stay
-- pending; once attempts that failed have taken budget_ms, or an application's trigger has raised for a user who is
-- alone in the statement, nothing more is tried in this transaction; and a time-out that such a trigger sets does not stay behind in the pooled connection.
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
    in_request boolean := not own_transaction and coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false);
    checked text := coalesce(current_setting('usersync.checked_constraints', true), '');
    statement_timeout text := current_setting('statement_timeout');
    to_check text := case when own_transaction then 'all' else '' end;
    to_defer text;
begin
    if ids is null or cardinality(ids) = 0 then
        return;
    end if;
    if fired_by in ('UPDATE', 'DELETE') then
        perform set_config('usersync.has_changed_users', 'yes', true);
    end if;
    if in_request and usersync.is_paused() then
        perform usersync.record_paused_users(ids, fired_by, applies_deletions);
        return;
    end if;
    if in_request then
        select pending.checked, pending.deferred into to_check, to_defer from usersync.make_constraints_immediate() as pending;
    end if;
    perform set_config('usersync.checked_constraints', to_check, true);
    perform set_config('usersync.in_request', in_request::text, true);
    perform usersync.try_users(ids, fired_by, in_request, applies_deletions, cardinality(ids) = 1);
    perform set_config('usersync.checked_constraints', checked, true);
    perform set_config('usersync.in_request', '', true);
    if in_request then
        perform usersync.defer_constraints(to_defer);
        if current_setting('statement_timeout') <> statement_timeout then
            perform set_config('statement_timeout', statement_timeout, false);
        end if;
    end if;
end;
$usersync$;
comment on function usersync.sync_users(uuid[], text, boolean, boolean) is
    'usersync: brings the rows of these users in line; what cannot be written goes to usersync.sync_failures.';
