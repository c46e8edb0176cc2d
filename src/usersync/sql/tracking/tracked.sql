-- The functions that record changes, each with its table; null if the table was dropped.
select proname as function, obj_description(pg_proc.oid, 'pg_proc') as comment, nspname as schema, relname as name
from pg_proc
left join pg_trigger on tgfoid = pg_proc.oid
left join pg_class on pg_class.oid = tgrelid
left join pg_namespace on pg_namespace.oid = relnamespace
where pronamespace = to_regnamespace('usersync') and proname like 'handle\_changes\_%'
order by 3, 4, 1
