-- Restores the triggers and search paths that usersync replaced, all of them or one trigger. Called after usersync's
-- own triggers are removed. Objects that were changed since then stay as they are.
create or replace function usersync.restore_adopted(trigger_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    adopted record;
begin
    for adopted in
        select * from usersync.adopted
        where restore_adopted.trigger_name is null or kind = 'trigger' and name = restore_adopted.trigger_name
        order by name
    loop
        if adopted.kind = 'search_path' then
            if exists (
                select from pg_proc
                where oid = to_regprocedure(adopted.function_name)
                    and array_to_string(proconfig, ', ') = adopted.definition
            ) then
                execute format('alter function %s reset search_path', adopted.function_name);
            end if;
            continue;
        end if;
        -- 0.1.0 renamed the trigger and let it run.
        if exists (
            select from pg_trigger where tgrelid = '@source_table'::regclass and tgname = adopted.moved_to
        ) then
            perform usersync.remove_trigger(adopted.moved_to);
        end if;
        if exists (select from pg_trigger where tgrelid = '@source_table'::regclass and tgname = adopted.name) then
            raise warning 'usersync: the trigger % was not restored, because a trigger with this name exists', adopted.name;
            continue;
        end if;
        if to_regprocedure(adopted.function_name) is null then
            execute adopted.function_definition;
        end if;
        execute adopted.definition;
    end loop;
    delete from usersync.adopted
    where restore_adopted.trigger_name is null or kind = 'trigger' and name = restore_adopted.trigger_name;
end;
$usersync$;
comment on function usersync.restore_adopted(text) is
    'usersync: restores the triggers and search paths that usersync replaced.';
