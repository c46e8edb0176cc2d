-- The value of a column that is emptied: null, or for a NOT NULL column a value without personal data. Texts are
-- unique per user. RFC 2606 reserves .invalid, so such an address never receives mail.
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
    'usersync: the value of an emptied personal column: null, or a placeholder if the column is NOT NULL.';
