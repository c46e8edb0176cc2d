-- Whether a trigger of the application fires for each row, after the operation (4 INSERT, 8 DELETE, as in
-- pg_trigger.tgtype), and before the named trigger: triggers of a kind fire in the order of their names.
create or replace function usersync.fires_after_others(relation oid, trigger_name name, operation integer)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $usersync$
    select exists (
        select from pg_trigger
        where tgrelid = relation and tgtype & 3 = 1 and tgtype & operation <> 0 and not tgisinternal
            and tgname < trigger_name and not tgdeferrable
    );
$usersync$;
comment on function usersync.fires_after_others(oid, name, integer) is
    'usersync: whether a trigger of the application fires for each row before this one.';
