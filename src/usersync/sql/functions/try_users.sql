-- Writes the rows of these users in one block. If that fails because of a row, each half is tried by itself, and a
-- single user who is refused is degraded (degrade_users). Called by sync_users. is_alone: the statement has only one
-- user.
create or replace function usersync.try_users(
    ids uuid[], fired_by text, in_request boolean, applies_deletions boolean, is_alone boolean
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    started timestamptz := clock_timestamp();
    reason text;
    failed_constraint text;
    failed_column text;
    error_message text;
    error_context text;
    written bigint;
    source_is_locked boolean := coalesce(fired_by in ('INSERT', 'UPDATE', 'DELETE'), false);
    records_events boolean := usersync.records_user_events();
    before record;
    has_triggers boolean;
    out_of_sync uuid[] := '{}'::uuid[];
    half integer;
    unlocked uuid[];
    raised_in text;
    gives_up boolean := false;
begin
    if in_request and current_setting('usersync.gives_up', true) = 'yes' then
        perform usersync.record_untried_users(ids);
        return;
    end if;
    if current_setting('usersync.has_waited', true) = 'yes' then
        -- This transaction has waited for a lock once. A sign-up waits only once.
        perform set_config('lock_timeout', '10ms', true);
    end if;
    begin
        if records_events and fired_by is distinct from 'INSERT' then
            before := usersync.user_rows(ids, source_is_locked);
        else
            select null::uuid[] as user_ids, null::jsonb[] as stored into before;
        end if;
        written := usersync.write_full_rows(ids, source_is_locked);
        if applies_deletions and written < cardinality(ids) then
            perform usersync.remove_users(ids);
        end if;
        -- A deferred constraint would fail the sign-up at COMMIT, outside of this block. It may be on the users table
        -- or on any table that a trigger or a cascade has written to. In a transaction of the application the checks
        -- stay deferred, because the application expects them at COMMIT.
        perform usersync.check_deferred_constraints();
        has_triggers := exists (
            select from pg_trigger where tgrelid = '@users_table'::regclass and not tgisinternal
        ) or exists (select from pg_inherits where inhparent = '@users_table'::regclass);
        -- If all rows were written and no trigger or partition can change them, there is nothing to compare.
        if has_triggers or written < cardinality(ids) then
            out_of_sync := usersync.record_out_of_sync_users(ids, applies_deletions);
        end if;
        if fired_by is distinct from 'INSERT' and current_setting('usersync.failures_locked', true) is distinct from 'yes' then
            begin
                delete from usersync.sync_failures as failure
                where failure.user_id = any(try_users.ids) and failure.kind <> 'event' and failure.user_id <> all(out_of_sync)
                    and (applies_deletions or failure.kind <> 'removal' or usersync.auth_user_exists(failure.user_id));
            exception when others then
                -- The rows are right even if the failures table is locked or missing. The next run checks it again.
                if sqlstate = '55P03' then
                    perform set_config('usersync.failures_locked', 'yes', true);
                end if;
            end;
        end if;
        if records_events then
            perform usersync.record_row_changes(
                ids, before.user_ids, before.stored, null, coalesce(fired_by, 'REQUEST'), applies_deletions);
        end if;
        if in_request then
            perform set_config('usersync.refusals', '', true);
        end if;
        return;
    exception
        -- "others" does not include two errors: assert_failure, which a trigger of the application may raise, and
        -- query_canceled, which must end the statement.
        when others or assert_failure then
            get stacked diagnostics
                reason = returned_sqlstate,
                failed_constraint = constraint_name,
                failed_column = column_name,
                error_message = message_text,
                error_context = pg_exception_context;
    end;

    half := cardinality(ids) / 2;
    raised_in := usersync.find_raising_function(error_context);
    if in_request then
        gives_up := usersync.count_failed_attempt(started, raised_in is not null and is_alone);
    end if;
    if reason = '55P03' then
        perform set_config('usersync.has_waited', 'yes', true);
    end if;
    if gives_up then
        null;
    elsif half > 0 and reason = '55P03' then
        -- Another session has locked some of the rows. The other rows are written without them.
        unlocked := usersync.unlocked_users(ids);
        if cardinality(unlocked) between 1 and cardinality(ids) - 1 then
            perform usersync.try_users(unlocked, fired_by, in_request, applies_deletions, is_alone);
            ids := array(select unnest(ids) except select unnest(unlocked));
        end if;
    elsif half > 0 and (left(reason, 2) not in ('0A', '42', '53', '57', '58', 'XX') or raised_in is not null)
        and not usersync.fails_for_every_user(concat_ws(' ', reason, failed_constraint, failed_column), false)
    then
        -- A row is the cause, and not the schema. Halve the batch to find the row and to write the others.
        perform usersync.try_users(ids[:half], fired_by, in_request, applies_deletions, is_alone);
        perform usersync.try_users(ids[half + 1:], fired_by, in_request, applies_deletions, is_alone);
        return;
    elsif half = 0 and in_request and not (reason = '23505' and array['@mapped_policies'] && '{"null",suffix}') then
        perform usersync.fails_for_every_user(concat_ws(' ', reason, failed_constraint, failed_column), true);
    end if;
    if not applies_deletions then
        ids := array(select id from unnest(ids) as id where usersync.auth_user_exists(id));
    end if;
    if cardinality(ids) = 0 then
        return;
    end if;
    perform usersync.degrade_users(
        ids, reason, nullif(failed_constraint, ''), nullif(failed_column, ''), error_message, error_context
    );
end;
$usersync$;
comment on function usersync.try_users(uuid[], text, boolean, boolean, boolean) is
    'usersync: writes the rows of these users, and finds those that are refused.';
