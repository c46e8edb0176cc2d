-- What stands in a column that should be emptied: null, or where the column refuses null, something that
-- names nobody. Unique per user; .invalid is reserved by RFC 2606 and can never receive mail.
create or replace function usersync.placeholder(column_name text, user_id uuid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
begin
    return (
        select case
            when typname = 'uuid' then placeholder.user_id::text
            when typcategory = 'S' and atttypmod > 4
                then left('deleted-' || placeholder.user_id || '@users.invalid', atttypmod - 4)
            when typcategory = 'S' then 'deleted-' || placeholder.user_id || '@users.invalid'
            when typcategory = 'E' then (
                select enumlabel::text from pg_enum where enumtypid = atttypid order by enumsortorder limit 1
            )
            else case typcategory
                when 'B' then 'false'
                when 'N' then '0'
                when 'D' then 'epoch'
                else '{}'
            end
        end
        from pg_attribute
        join pg_type on pg_type.oid = atttypid
        where attrelid = '@users_table'::regclass
            and attname = placeholder.column_name
            and (attnotnull or typnotnull)
    );
end;
$usersync$;
comment on function usersync.placeholder(text, uuid) is
    'usersync: what a personal column of a deleted user holds: null, unless the column refuses null.';
