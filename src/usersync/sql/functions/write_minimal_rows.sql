-- Inserts rows with the id and the NOT NULL columns that the mapping has values for. Reads the NOT NULL columns from
-- the catalog each time, because the application may have added one.
create or replace function usersync.write_minimal_rows(ids uuid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    column_list text;
    value_list text;
    records_events boolean := usersync.records_user_events();
    before record;
begin
    if records_events then
        before := usersync.user_rows(ids, true);
    end if;
    select string_agg(quote_ident(mapped.name), ', '), string_agg(mapped.expression, ', ')
    into column_list, value_list
    from unnest(array['@mapped_columns'], array['@mapped_expressions'], array['@mapped_owners'])
        as mapped (name, expression, owner)
    join pg_attribute as required on
        required.attrelid = '@users_table'::regclass
        and required.attname = mapped.name
        and not required.attisdropped
    join pg_type on pg_type.oid = required.atttypid
    where mapped.owner = 'key' or ((required.attnotnull or typnotnull) and not required.atthasdef);

    execute format(
        'insert into %s (%s) select %s from %s as source '
        'where source."id" = any($1) and source."deleted_at" is null '
        'and (select true from %s as target where %s) is null on conflict (%I) do nothing',
        '@users_table', column_list, value_list, '@source_table', '@users_table', '@is_row_of_source', '@key'
    ) using ids;
    perform usersync.check_deferred_constraints();
    if records_events then
        perform usersync.record_row_changes(
            ids, before.user_ids, before.stored, '{"degraded": true}', current_setting('usersync.fired_by', true), false);
    end if;
end;
$usersync$;
comment on function usersync.write_minimal_rows(uuid[]) is
    'usersync: inserts rows with the id and the NOT NULL columns, for users without a row.';
