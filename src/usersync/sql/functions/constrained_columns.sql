-- The columns that a constraint or a unique index of the users table is about.
create or replace function usersync.constrained_columns(constraint_name text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select string_agg(attname, ', ' order by attnum)
        from pg_attribute
        where attrelid = '@users_table'::regclass
            and attnum = any(coalesce(
                (select conkey from pg_constraint where conrelid = '@users_table'::regclass and conname = constrained_columns.constraint_name),
                (
                    select indkey::int2[]
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    where indrelid = '@users_table'::regclass and relname = constrained_columns.constraint_name
                )
            ))
    );
exception when others then
    return null;
end;
$usersync$;
comment on function usersync.constrained_columns(text) is
    'usersync: the columns of a constraint on the users table.';
