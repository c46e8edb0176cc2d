-- Whether the name of a column could be that of a secret. For columns that were added to a table or renamed after it was
-- tracked: their values are not recorded until the exact rules, which are part of usersync's Python code, have decided.
create or replace function usersync.may_be_secret(column_name text) returns boolean
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    words text;
begin
    if getdatabaseencoding() = 'UTF8' then
        column_name := normalize(column_name, NFKC);
    end if;
    words := lower(array_to_string(array(
        select match[1] from regexp_matches(column_name, '[A-Z]+(?![a-z])|[A-Z]?[a-z]+', 'g') as match
    ), '_'));
    return '_' || words || '_' ~ '@secret_pattern';
end;
$usersync$;
comment on function usersync.may_be_secret(text) is
    'usersync: whether the name of a column could be that of a secret.';
