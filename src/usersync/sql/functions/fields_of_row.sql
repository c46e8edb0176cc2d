-- The columns of a row of a tracked table, by the names that they have now. Read from the row's text, because
-- to_jsonb calls the cast to json that whoever owns a column's type may have made, with the rights of whoever
-- calls this; an output function is nobody's to make but a superuser's. What jsonb does not take stays text.
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
            -- A comma and what follows: what holds commas or quotes is quoted, with its quotes and backslashes doubled.
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
