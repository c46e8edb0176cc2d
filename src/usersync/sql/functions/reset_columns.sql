-- Gives columns of one row their DEFAULT back, because the auth server has taken the user's value away. Those without a
-- DEFAULT are sync_users' to empty. Nobody but the trigger can tell: afterwards such a value looks like one that the
-- application has set where the user has none. Raises nothing.
create or replace function usersync.reset_columns(user_id uuid, column_names text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '@lock_timeout'
as $usersync$
#variable_conflict use_column
declare
    assignments text;
begin
    select string_agg(format('%I = default', name), ', ') into assignments
    from unnest(column_names) as name
    where usersync.column_defaults() -> name is not null;
    if assignments is null then
        return;
    end if;
    execute format('update %s as target set %s where %s', '@users_table', assignments, '@is_row_of_given') using user_id;
    set constraints all immediate;
exception when others or assert_failure then
    perform usersync.record_failures(
        array[user_id], sqlstate, null, array_to_string(column_names, ', '), sqlerrm, null);
end;
$usersync$;
comment on function usersync.reset_columns(uuid, text[]) is
    'usersync: gives columns of a row their DEFAULT back.';
