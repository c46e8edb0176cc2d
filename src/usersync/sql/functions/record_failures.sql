-- Writes the failures table. The outcome is degraded if the user has a row, and failed if not. For a deleted user the
-- kind is removal: the row still exists.
--
-- From the sixth attempt on, runs wait before they try the user again: one minute, two, four, up to a day. Messages are
-- stored without the personal data that they may quote: e-mail addresses, and a value that is not valid for its type.
create or replace function usersync.record_failures(
    ids uuid[], reason text, failed_constraint text, failed_column text, error_message text, raised_in text
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    present uuid[] := '{}'::uuid[];
    -- The auth server's transaction has waited for a lock and given up. It does not wait again for each user.
    gives_up boolean := current_setting('usersync.gives_up', true) = 'yes'
        and current_setting('usersync.has_waited', true) = 'yes';
begin
    if gives_up then
        -- The users of an INSERT have no rows yet. Users who are changed or deleted usually have one.
        present := case when current_setting('usersync.fired_by', true) <> 'INSERT' then ids else present end;
    else
        begin
            present := array(
                select target."@key"::uuid
                from "@users_table" as target
                where target."@key" = any(record_failures.ids::"@key_type"[]) and ('@is_user_row') and (
                    select true from "@source_table" as source
                    where source."id" = target."@key"::uuid and source."deleted_at" is null
                )
            );
        exception when others then
            null;  -- No table, no rows.
        end;
    end if;
    insert into usersync.sync_failures as failure
        (user_id, kind, outcome, sqlstate, constraint_name, column_name, message, raised_in)
    select
        id,
        case when usersync.auth_user_exists(id) then 'row' else 'removal' end,
        case when id = any(present) then 'degraded' else 'failed' end,
        reason,
        -- A trigger can raise with any constraint name, for example an e-mail address.
        usersync.redact_message(reason, failed_constraint),
        usersync.redact_message(reason, failed_column),
        usersync.redact_message(reason, error_message),
        record_failures.raised_in
    from unnest(ids) as id
    on conflict (user_id) where kind <> 'event' do update set
        kind = excluded.kind,
        outcome = excluded.outcome,
        sqlstate = excluded.sqlstate,
        constraint_name = excluded.constraint_name,
        column_name = excluded.column_name,
        message = excluded.message,
        raised_in = excluded.raised_in,
        attempts = failure.attempts + 1,
        last_failed_at = now(),
        next_try_at = case
            when failure.attempts >= 5 then now() + interval '1 minute' * least(2 ^ least(failure.attempts - 5, 11), 1440)
        end;
end;
$usersync$;
comment on function usersync.record_failures(uuid[], text, text, text, text, text) is
    'usersync: records in the failures table why these users could not be synced.';
