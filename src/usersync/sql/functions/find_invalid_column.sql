-- The first column whose value is not valid for its type. PostgreSQL's error quotes the value but does not name the
-- column, so the columns are tried one by one.
create or replace function usersync.find_invalid_column(user_id uuid) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    name text;
    expression text;
begin
    for name, expression in
        select mapped.name, mapped.expression
        from unnest(array['@mapped_columns'], array['@mapped_expressions']) as mapped (name, expression)
    loop
        begin
            execute format(
                'select (jsonb_populate_record(null::%s, jsonb_build_object(%L, %s))).%I from %s as source '
                'where source."id" = $1',
                '@users_table', name, expression, name, '@source_table'
            ) using user_id;
        exception when others then
            return name;
        end;
    end loop;
    return null;
end;
$usersync$;
comment on function usersync.find_invalid_column(uuid) is
    'usersync: names the column that does not accept this user''s value.';
