-- The columns of a constraint or a unique index of the users table. Null if neither has this name.
create or replace function usersync.constraint_columns(constraint_name text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select array_agg(attname::text order by attnum)
        from pg_attribute
        where attrelid = '@users_table'::regclass
            and attnum = any(coalesce(
                (
                    select conkey from pg_constraint
                    where conrelid = '@users_table'::regclass and conname = constraint_columns.constraint_name
                ),
                (
                    select case
                        when indexprs is null then indkey::int2[]
                        -- For an index on an expression such as lower(username): the columns that the expression reads.
                        else array(
                            select refobjsubid::int2 from pg_depend
                            where classid = 'pg_class'::regclass and objid = indexrelid
                                and refclassid = 'pg_class'::regclass and refobjid = indrelid and refobjsubid > 0
                        )
                    end
                    from pg_index
                    join pg_class on pg_class.oid = indexrelid
                    where indrelid = '@users_table'::regclass and relname = constraint_columns.constraint_name
                )
            ))
    );
exception when others then
    return null;
end;
$usersync$;
comment on function usersync.constraint_columns(text) is 'usersync: the columns of a constraint on the users table.';
