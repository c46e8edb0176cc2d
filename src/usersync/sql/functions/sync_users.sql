-- The one way into the users table. Brings the rows of these users in line with the auth server's table and
-- raises for nothing that the application's schema can do. Called by the triggers in the auth server's own
-- session, and by everything else as the owner.
--
-- Locks: the users' rows in the auth server's table FOR SHARE, so that what is copied cannot be out of date
-- by the time it is written, and a user who is just being deleted cannot come back. Users that the calling
-- statement itself has inserted (just_inserted) are nobody else's to see and new to the ledger: no lock, no
-- look into it, which is a good third of what a sign-up would pay.
--
-- enable_seqscan: a plan that was made while the tables were empty would be kept while they grow.
create or replace function usersync.sync_users(ids uuid[], just_inserted boolean default false) returns void
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
    half integer;
    unlocked uuid[];
begin
    if ids is null or cardinality(ids) = 0 then
        return;
    end if;
    begin
        if not just_inserted then
            perform from "@source_table" as source where source."id" = any(sync_users.ids) for share;
        end if;

        insert into "@users_table" as target ("@columns")
        select '@source_values'
        from "@source_table" as source
        where source."id" = any(sync_users.ids) and source."deleted_at" is null
        on conflict ("@key") do update
            set ("@auth_columns") = row("@excluded_auth_columns")
            where row('@stored_auth_values') is distinct from row('@excluded_auth_values');
        get diagnostics written = row_count;

        if written < cardinality(ids) then
            perform usersync.remove_users(ids);
        end if;
        -- A constraint that is checked at COMMIT would fail the sign-up there, out of reach of this block.
        if exists (
            select from pg_constraint where conrelid = '@users_table'::regclass and condeferrable and condeferred
        ) then
            perform usersync.settle_constraints();
        end if;
        if not just_inserted then
            delete from usersync.sync_failures where user_id = any(sync_users.ids);
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
    if half > 0 and reason = '55P03' then
        -- Somebody holds some of the rows. The others need not wait with them.
        unlocked := usersync.unlocked_users(ids);
        if cardinality(unlocked) between 1 and cardinality(ids) - 1 then
            perform usersync.sync_users(unlocked, just_inserted);
            ids := array(select unnest(ids) except select unnest(unlocked));
        end if;
    elsif half > 0 and left(reason, 2) not in ('0A', '42', '53', '54', '57', '58', 'XX') then
        -- Some row's fault, then, and not the schema's: find it, and let the others through.
        perform usersync.sync_users(ids[:half], just_inserted);
        perform usersync.sync_users(ids[half + 1:], just_inserted);
        return;
    end if;
    perform usersync.degrade_users(
        ids, reason, nullif(failed_constraint, ''), nullif(failed_column, ''), error_message, error_context
    );
end;
$usersync$;
comment on function usersync.sync_users(uuid[], boolean) is
    'usersync: brings the rows of these users in line; what cannot be written goes to usersync.sync_failures.';
