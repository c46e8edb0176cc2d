-- Saves the definition of a trigger on the auth server's table before usersync replaces the trigger. restore_adopted
-- creates it again. The trigger's function stays in the database.
create or replace function usersync.adopt_trigger(trigger_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    adopted record;
begin
    -- Takes the lock that removing the trigger needs, and not a weaker one first. Otherwise a sign-up that has read the
    -- table and waits to write to it would deadlock with this transaction.
    lock table only "@source_table" in access exclusive mode;
    select
        pg_get_triggerdef(pg_trigger.oid) as definition,
        tgfoid::regprocedure::text as function_name,
        concat_ws(E';\n',
            pg_get_functiondef(tgfoid),
            format('comment on function %s is %L', tgfoid::regprocedure, obj_description(tgfoid, 'pg_proc')),
            case when proacl is not null then format('revoke all on function %s from public', tgfoid::regprocedure) end,
            (
                select string_agg(
                    format(
                        'grant execute on function %s to %s', tgfoid::regprocedure,
                        case when grantee = 0 then 'public' else grantee::regrole::text end
                        || case when is_grantable then ' with grant option' else '' end
                    ),
                    E';\n'
                )
                from aclexplode(proacl) where grantee <> proowner
            )
        ) as function_definition
    into strict adopted
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = '@source_table'::regclass and tgname = adopt_trigger.trigger_name and not tgisinternal;

    insert into usersync.adopted (kind, name, function_name, definition, function_definition)
    values (
        'trigger', adopt_trigger.trigger_name, adopted.function_name, adopted.definition, adopted.function_definition
    )
    on conflict (kind, name) do update set
        function_name = excluded.function_name,
        definition = excluded.definition,
        function_definition = excluded.function_definition,
        moved_to = null,
        adopted_at = now();
end;
$usersync$;
comment on function usersync.adopt_trigger(text) is
    'usersync: saves the definition of a trigger on the auth server''s table before usersync replaces it.';
