-- Sets columns of one row to their DEFAULT, because the auth server has removed the user's value. sync_users sets the
-- columns without a DEFAULT to null. Only the trigger can do this: afterwards such a value looks like one that the
-- application has set. Raises nothing.
create or replace function usersync.reset_columns(user_id uuid, column_names text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
#variable_conflict use_column
declare
    assignments text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    select string_agg(format('%I = default', name), ', ') into assignments
    from unnest(column_names) as name
    where usersync.column_defaults() -> name is not null;
    if assignments is null then
        return;
    end if;
    if records_events then
        before := usersync.user_rows(array[user_id], true);
    end if;
    execute format('update %s as target set %s where %s', '@users_table', assignments, '@is_row_of_given') using user_id;
    set constraints all immediate;
    if records_events then
        perform usersync.record_row_changes(
            array[user_id], before.user_ids, before.stored, null, 'UPDATE', false);
    end if;
exception when others or assert_failure then
    perform usersync.record_failures(
        array[user_id], sqlstate, null, array_to_string(column_names, ', '), sqlerrm, null);
end;
$usersync$;
comment on function usersync.reset_columns(uuid, text[]) is 'usersync: sets columns of a row to their DEFAULT.';
