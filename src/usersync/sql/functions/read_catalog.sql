-- What is in the catalog of a table by now, besides its triggers, and whether there is a pause. VOLATILE, and so with a
-- snapshot of its own: what is computed when a statement is planned (see stores_rows_unchanged) is kept by a session until
-- the table is altered, and must not be what the snapshot of the statement shows, which may be older than an alteration
-- that the session has already been told of. Above READ COMMITTED there is no newer snapshot, and nothing may be planned
-- with what this returns.
create or replace function usersync.read_catalog(
    relation regclass,
    out columns_with_default name[], out computes_defaults boolean, out has_rules boolean, out is_paused boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $usersync$
begin
    columns_with_default := array(
        select attname from pg_attribute where attrelid = relation and atthasdef and not attisdropped
    );
    -- A function that may have been written by anybody; not one of PostgreSQL's own, nor of an extension in C.
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
    'usersync: what is in the catalog of a table by now, and whether there is a pause.';
