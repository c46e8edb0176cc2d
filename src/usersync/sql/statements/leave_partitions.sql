-- Moves partitions of an audit log out of usersync's schema into the schema of the log, closed to the Data API. The log
-- may have been renamed. If an earlier log has left partitions of the same months there, these partitions and their
-- indexes get a number.
do $usersync$
declare
    partition regclass;
    home regnamespace;
    relation regclass;
    usual_name text;
    free_name text;
    number integer;
begin
    for partition, home in
        select child.oid, parent.relnamespace from pg_inherits
        join pg_class as child on child.oid = inhrelid
        join pg_class as parent on parent.oid = inhparent
        where child.relnamespace = to_regnamespace('usersync') and child.relkind in ('r', 'p')
            and parent.relnamespace <> child.relnamespace and ('@is_former_log')
    loop
        for relation, usual_name in
            select oid, relname from pg_class
            where oid = partition or oid in (select indexrelid from pg_index where indrelid = partition)
        loop
            free_name := usual_name;
            number := 1;
            while exists (select from pg_class where relnamespace = home and relname = free_name) loop
                number := number + 1;
                free_name := left(usual_name, 55) || '_' || number;
            end loop;
            if free_name <> usual_name then
                execute format('alter table %s rename to %I', relation, free_name);
            end if;
        end loop;
        execute format('alter table %s enable row level security', partition);
        execute format('alter table %s set schema %s', partition, home);
    end loop;
end;
$usersync$;
