-- Objects with the names of usersync's objects that usersync did not create. Each function of usersync has a comment
-- that starts with 'usersync: '.
select
    'trigger' as kind,
    trigger.tgname::text as name,
    format('%I.%I(%s)', namespace.nspname, function.proname, oidvectortypes(function.proargtypes)) as function
from pg_trigger as trigger
join pg_proc as function on function.oid = trigger.tgfoid
join pg_namespace as namespace on namespace.oid = function.pronamespace
where trigger.tgrelid = to_regclass('@source_table')
    and not trigger.tgisinternal
    and trigger.tgname in ('on_auth_user_created', 'on_auth_user_updated', 'on_auth_user_deleted')
    and coalesce(obj_description(function.oid, 'pg_proc'), '') not like 'usersync: %'
    -- If another trigger has the name, usersync's trigger may have another name.
    and not exists (
        select from pg_trigger as own
        join pg_proc as handler on handler.oid = own.tgfoid
        where own.tgrelid = trigger.tgrelid and obj_description(handler.oid, 'pg_proc') like 'usersync: %'
            and handler.proname = case trigger.tgname
                when 'on_auth_user_created' then 'handle_new_user'
                when 'on_auth_user_updated' then 'handle_updated_user'
                else 'handle_deleted_user'
            end
    )
union all
select 'function', format('%I.%I(%s)', 'public', function.proname, oidvectortypes(function.proargtypes)), null
from pg_proc as function
where function.pronamespace = to_regnamespace('public')
    and function.proname in ('@public_functions')
    and coalesce(obj_description(function.oid, 'pg_proc'), '') not like 'usersync: %'
union all
select 'schema', namespace.nspname::text, null
from pg_namespace as namespace
where namespace.nspname = 'usersync'
    and coalesce(obj_description(namespace.oid, 'pg_namespace'), '') not like 'usersync: %'
order by 1, 2
