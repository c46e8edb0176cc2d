-- Every write to the users table goes through this function, except the first INSERT of a sign-up (handle_new_user). It
-- syncs the rows of these users and never raises for a cause in the application's schema. The triggers call it in the
-- auth server's session; all other callers run as the owner.
--
-- fired_by: the operation of the calling trigger, PAGE for a run, ENSURE, RETRY or null for
-- an explicit call. No other session can
-- change rows of the auth server's table that the calling statement has just written, so triggers copy them without
-- locks; other callers lock them. Inserted users have no failures yet, so INSERT does not read the failures table.
--
-- own_transaction: whether the transaction is usersync's own and ends with this call. In an explicit call within the
-- application's transaction, deferred checks wait for the application's COMMIT.
--
-- applies_deletions: whether on_delete and on_soft_delete are applied to the rows of deleted users. True if a deletion
-- was seen or is requested. Otherwise such rows, and failures to remove them, stay as they are.
--
-- In the auth server's transaction (called by a trigger): checks that the caller has pending stay pending; after
-- budget_ms of failed attempts, or after a trigger of the application has raised for the only user of the statement,
-- nothing more is tried in this transaction; and a statement_timeout that such a trigger sets is restored, because the
-- connection is pooled.
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
    outer_call text := coalesce(current_setting('usersync.fired_by', true), '');
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
    perform set_config('usersync.fired_by', coalesce(fired_by, 'REQUEST'), true);
    perform usersync.try_users(ids, fired_by, in_request, applies_deletions, cardinality(ids) = 1);
    perform set_config('usersync.checked_constraints', checked, true);
    perform set_config('usersync.in_request', '', true);
    perform set_config('usersync.fired_by', outer_call, true);
    if in_request then
        perform usersync.defer_constraints(to_defer);
        if current_setting('statement_timeout') <> statement_timeout then
            perform set_config('statement_timeout', statement_timeout, false);
        end if;
    end if;
end;
$usersync$;
comment on function usersync.sync_users(uuid[], text, boolean, boolean) is
    'usersync: syncs the rows of these users; failures go to usersync.sync_failures.';
