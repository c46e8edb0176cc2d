-- Checks now what the users table's deferred constraints would check at COMMIT, and puts them back as they
-- were. By name, and not ALL: the caller's own deferred constraints are none of our business.
create or replace function usersync.settle_constraints() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    names text;
begin
    select string_agg(distinct format('%I.%I', nspname, conname), ', ')
    into names
    from pg_constraint
    join pg_namespace on pg_namespace.oid = connamespace
    where '@users_table'::regclass in (conrelid, confrelid) and condeferrable and condeferred;

    if names is not null then
        execute format('set constraints %s immediate', names);
        begin
            execute format('set constraints %s deferred', names);
        exception when wrong_object_type then
            -- A namesake on another table cannot be deferred, and the command has no way of leaving it out: ours
            -- stay immediate until the transaction ends.
            null;
        end;
    end if;
end;
$usersync$;
comment on function usersync.settle_constraints() is
    'usersync: checks the deferred constraints of the users table now.';
