-- Whether a value can be had in a type, without raising where it cannot.
create or replace function usersync.is_valid_input(value text, type_name text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if value is null then
        return true;
    end if;
    if current_setting('server_version_num')::integer >= 160000 then
        -- Given a bare parameter, it takes the type of the first call for that of all calls in the transaction.
        return pg_input_is_valid(value, type_name || '');
    end if;
    execute format('select %L::%s', value, type_name);
    return true;
exception when others or assert_failure then
    return false;
end;
$usersync$;
comment on function usersync.is_valid_input(text, text) is 'usersync: whether a value can be had in a type.';
