-- The catalog's current data about a table except its triggers, and whether usersync is paused. VOLATILE, so that it
-- has its own snapshot: a session keeps a result that is computed during planning (see stores_rows_unchanged) until the
-- table is altered. The snapshot of the calling statement may be older than an alteration that the session already
-- knows of. Above READ COMMITTED there is no newer snapshot, and no plan may use this result.
create or replace function usersync.read_catalog(
    relation regclass,
    out columns_with_default name[], out computes_defaults boolean, out has_rules boolean, out is_paused boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
-- A session calls it several times for its first sign-up, and would plan each of the first five calls.
set plan_cache_mode = force_generic_plan
as $usersync$
begin
    columns_with_default := array(
        select attname from pg_attribute where attrelid = relation and atthasdef and not attisdropped
    );
    -- A DEFAULT that calls a function of the application. Functions of PostgreSQL and of extensions in C do not count.
    computes_defaults := exists (
        select from pg_attrdef
        join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
        join pg_proc on refclassid = 'pg_proc'::regclass and refobjid = pg_proc.oid
        join pg_language on pg_language.oid = prolang
        where adrelid = relation and lanname not in ('internal', 'c')
    );
    has_rules := exists (select from pg_rewrite where ev_class = relation and ev_type <> '1');
    is_paused := exists (select from usersync.pause);
end;
$usersync$;
comment on function usersync.read_catalog(regclass) is
    'usersync: the catalog''s current data about a table, and whether usersync is paused.';
