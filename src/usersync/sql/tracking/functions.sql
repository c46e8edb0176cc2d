-- The functions that record changes, each with its table; null if the trigger is missing.
select proname as name, tgrelid::bigint as relation
from pg_proc
left join pg_trigger on tgfoid = pg_proc.oid
where pronamespace = to_regnamespace('usersync') and proname like 'handle\_changes\_%'
