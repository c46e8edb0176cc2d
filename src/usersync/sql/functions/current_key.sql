-- The columns that identify a row of a tracked table. If one of them was renamed, the columns of the primary key.
create or replace function usersync.current_key(table_id oid, key_columns text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    primary_key text[];
begin
    if key_columns <@ array(
        select attname::text from pg_attribute where attrelid = table_id and attnum > 0 and not attisdropped
    ) then
        return key_columns;
    end if;
    select array_agg(attname::text order by place) into primary_key
    from pg_index
    cross join unnest(indkey[:indnkeyatts - 1]) with ordinality as part (number, place)
    join pg_attribute on attrelid = indrelid and attnum = number
    where indrelid = table_id and indisprimary;
    return case when cardinality(primary_key) = cardinality(key_columns) then primary_key else key_columns end;
end;
$usersync$;
comment on function usersync.current_key(oid, text[]) is
    'usersync: the columns that identify a row of a tracked table.';
