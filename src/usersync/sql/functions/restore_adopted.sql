-- Brings back what usersync had taken the place of, once its own triggers are gone: everything, or one trigger. What
-- somebody has changed since is left as it is.
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
        -- An earlier release has let it run under another name.
        if exists (
            select from pg_trigger where tgrelid = '@source_table'::regclass and tgname = adopted.moved_to
        ) then
            perform usersync.remove_trigger(adopted.moved_to);
        end if;
        if exists (select from pg_trigger where tgrelid = '@source_table'::regclass and tgname = adopted.name) then
            raise warning 'usersync: there is a trigger % already, it stays as it is', adopted.name;
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
    'usersync: brings back the triggers and search paths that were there before usersync.';
