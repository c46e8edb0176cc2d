-- Has deferred constraints checked at once from here on, so that what we write fails within our reach and not at COMMIT.
-- What cannot be checked yet belongs to the caller, who inserts the other side later (a seed file): such constraints
-- are left as they are. checked: those that are checked now, as SET CONSTRAINTS takes them; all, or nothing where no
-- constraint of the database can be deferred. deferred: those to be deferred again afterwards.
create or replace function usersync.make_constraints_immediate(out checked text, out deferred text)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = on
as $usersync$
declare
    one text;
begin
    if not exists (select from pg_constraint where condeferrable) then
        checked := '';
        return;
    end if;
    deferred := (
        select string_agg(distinct format('%I.%I', nspname, conname), ', ')
        from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
        where condeferred
    );
    begin
        set constraints all immediate;
        checked := 'all';
        return;
    exception when others or assert_failure then
        checked := '';
    end;
    for one in
        select distinct format('%I.%I', nspname, conname)
        from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
        where condeferrable
    loop
        begin
            execute format('set constraints %s immediate', one);
            checked := concat_ws(', ', nullif(checked, ''), one);
        exception when others or assert_failure then
            null;  -- The caller's.
        end;
    end loop;
end;
$usersync$;
comment on function usersync.make_constraints_immediate() is
    'usersync: has deferred constraints checked at once, but for those that the caller has pending.';
