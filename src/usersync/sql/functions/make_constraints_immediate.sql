-- Makes deferred constraints immediate, so that a violation by usersync raises in its own block and not at COMMIT. A
-- constraint with a pending violation of the caller stays deferred: a seed file may insert the referenced row later.
-- checked: the constraints that are immediate now, in the syntax of SET CONSTRAINTS: all, a list, or empty if no
-- constraint of the database is deferrable. deferred: the constraints to defer again afterwards.
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
            null;  -- The caller has a pending violation.
        end;
    end loop;
end;
$usersync$;
comment on function usersync.make_constraints_immediate() is
    'usersync: makes deferred constraints immediate, except those with a pending violation of the caller.';
