-- Whether a text is valid input for a type. Raises nothing.
create or replace function usersync.is_valid_input(value text, type_name text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if value is null then
        return true;
    end if;
    if current_setting('server_version_num')::integer >= 160000 then
        -- With a bare parameter, the function would keep the type of the first call for the whole transaction.
        return pg_input_is_valid(value, type_name || '');
    end if;
    execute format('select %L::%s', value, type_name);
    return true;
exception when others or assert_failure then
    return false;
end;
$usersync$;
comment on function usersync.is_valid_input(text, text) is 'usersync: whether a text is valid input for a type.';
