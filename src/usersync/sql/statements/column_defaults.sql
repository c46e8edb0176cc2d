-- The DEFAULTs of the mapped columns that use it if a user has no value, as one JSON object. A constant is text; null
-- stands for a DEFAULT that is computed for each row. Null if no such column has a DEFAULT. Read from the catalog each
-- time, because the application may change it.
select jsonb_object_agg(found.attname, case
    when found.code ~ '^''([^'']|'''')*''(::[a-zA-Z0-9_ "."\[\](),]+)?$'
        then replace(substring(found.code from '^''((?:[^'']|'''')*)'''), '''''', '''')
    else substring(found.code from '^\(?(-?[0-9.]+|true|false)\)?(?:::[a-z ]+)?$')
end)
from (
    select attname, pg_get_expr(adbin, adrelid) as code
    from pg_attrdef
    join pg_attribute on attrelid = adrelid and attnum = adnum
    where adrelid = to_regclass('@users_table') and attname in ('@defaultable_columns')
) as found
where found.code !~* '^null(::|$)'
