-- The columns of a row of a tracked table under their current names. Parses the row's text form. to_jsonb would call a
-- cast to json that the owner of a column's type may have created, with the rights of the current role; only a
-- superuser can create output functions. A json value that jsonb does not accept stays text.
create or replace function usersync.fields_of_row(changed_row record, table_id oid) returns jsonb
language plpgsql stable
set search_path = pg_catalog, "@pinned"
as $usersync$
begin
    return (
        with columns as (
            select attname, coalesce(nullif(typbasetype, 0), atttypid)::regtype as type,
                row_number() over (order by attnum) as position
            from pg_attribute join pg_type on pg_type.oid = atttypid
            where attrelid = table_id and attnum > 0 and not attisdropped
        ), pieces as (
            -- A comma and the value after it. A value with commas or quotes is quoted, and its quotes and backslashes
            -- are doubled.
            select match[1] as piece, position
            from regexp_matches(
                ',' || substr(concat(changed_row), 2, length(concat(changed_row)) - 2), ',("(?:[^"]|"")*"|[^",]*)', 'g'
            ) with ordinality as found (match, position)
        ), fields as (
            select attname, type, case
                when left(piece, 1) = '"' then replace(replace(
                    substr(piece, 2, length(piece) - 2), '""', '"'), E'\\\\', E'\\')
                else nullif(piece, '')
            end as value
            from columns join pieces using (position)
        )
        select jsonb_object_agg(attname, case
            when value is null then 'null'
            when type in ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision')
                then to_jsonb(value::numeric)
            when type = 'boolean'::regtype then to_jsonb(value::boolean)
            when type = 'timestamp'::regtype then to_jsonb(value::timestamp)
            when type = 'timestamptz'::regtype then to_jsonb(value::timestamptz)
            when type in ('json', 'jsonb') and usersync.is_valid_input(value, 'jsonb') then value::jsonb
            else to_jsonb(value)
        end)
        from fields
    );
end;
$usersync$;
comment on function usersync.fields_of_row(record, oid) is 'usersync: the columns of a row of a tracked table.';
