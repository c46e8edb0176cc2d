-- For users whose full row was refused: writes a minimal row, so that foreign keys to it work, and records the reason
-- in the failures table. Raises nothing. If the failures table cannot be written either, a warning goes to the server's
-- log.
create or replace function usersync.degrade_users(
    ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, error_context text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
declare
    half integer;
    second_reason text;
    -- In the auth server's transaction, a trigger of the application that has raised for this user is not called again.
    may_try boolean := current_setting('usersync.gives_up', true) is distinct from 'yes'
        and (current_setting('usersync.in_request', true) is distinct from 'true'
            or usersync.find_raising_function(error_context) is null);
    resolved record;
begin
    ids := usersync.expected_users(ids);
    if cardinality(ids) = 0 then
        return;
    end if;
    half := cardinality(ids) / 2;
    if reason = '23505' and half = 0 and may_try and array['@mapped_policies'] && '{"null",suffix}' then
        select * into resolved from usersync.write_row_without_conflict(ids[1], failed_constraint);
        if resolved.written and resolved.lacking is null then
            delete from usersync.sync_failures where user_id = ids[1] and kind <> 'event';
            return;
        elsif resolved.written then
            failed_column := resolved.lacking;
            failed_constraint := resolved.lacking_for;
            error_message := format('duplicate key value violates unique constraint "%s"', failed_constraint);
        end if;
    end if;
    if reason = '55P03' then
        -- The sign-up has waited for this lock once. It does not wait again.
        perform set_config('lock_timeout', '10ms', true);
    elsif may_try then
        begin
            perform usersync.write_minimal_rows(ids);
        exception when others or assert_failure then
            second_reason := sqlstate;
        end;
    end if;
    if half > 0 and left(second_reason, 2) in ('22', '23', 'P0')
        and coalesce(current_setting('usersync.refusals', true), '') not like '%........'
    then
        perform usersync.degrade_users(
            ids[:half], reason, failed_constraint, failed_column, error_message, error_context);
        perform usersync.degrade_users(
            ids[half + 1:], reason, failed_constraint, failed_column, error_message, error_context);
        return;
    end if;
    perform usersync.record_failures(
        ids,
        reason,
        failed_constraint,
        coalesce(
            failed_column,
            array_to_string(usersync.constraint_columns(failed_constraint), ', '),
            case when reason ~ '^(22|23|42703|42804)' then usersync.find_invalid_column(ids[1]) end
        ),
        error_message,
        usersync.find_raising_function(error_context)
    );
exception when others or assert_failure then
    raise warning 'usersync: % user(s) were not synced, and the failures table could not be written', cardinality(ids)
        using detail = format(
            'Users: %s. Cause: %s %s. Failures table: %s %s.',
            left(array_to_string(ids, ', '), 1000), reason, usersync.redact_message(reason, error_message), sqlstate, sqlerrm),
        hint = 'Run "usersync doctor", then "usersync sync".';
end;
$usersync$;
comment on function usersync.degrade_users(uuid[], text, text, text, text, text) is
    'usersync: gives users whose row was refused a minimal row, and records the reason.';
