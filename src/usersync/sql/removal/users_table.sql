-- Drops the users table if that was asked for, and usersync created it.
do $usersync$
begin
    if '@drop_users_table' then
        if coalesce(obj_description(to_regclass('@users_table'), 'pg_class'), '')
            not like 'The application''s users, created by usersync%'
        then
            raise exception 'usersync: the users table was not created by usersync, which does not drop it'
                using hint = 'Leave out drop_users_table.';
        end if;
        drop table "@users_table";
    end if;
end;
$usersync$;
