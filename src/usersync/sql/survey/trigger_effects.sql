-- Whether triggers of the users table change the values that an UPDATE writes. Writes a value to one column after the
-- other of one row and compares it with the stored value. Each UPDATE is rolled back. A DO block returns nothing, so a
-- setting of the transaction passes the columns in and the result out, as JSON.
do $usersync$
declare
    wanted jsonb;
    changed jsonb := '[]';
    is_same boolean;
begin
    for wanted in select value from jsonb_array_elements(current_setting('usersync.survey')::jsonb) loop
        begin
            execute format(
                'update %1$s as target set %2$I = %3$s where target.ctid = (select each.ctid from %1$s as each '
                'where exists (select from %4$s as source where source."id"::text = each.%5$I::text) limit 1) '
                'returning target.%2$I is not distinct from (%3$s)',
                wanted ->> 'table', wanted ->> 'column', wanted ->> 'value', current_setting('usersync.source'),
                wanted ->> 'key'
            ) into is_same;
            if is_same is false then
                changed := changed || jsonb_build_array(wanted ->> 'column');
            end if;
            raise exception using errcode = 'US999', message = 'rolled back';
        exception when others then
            null;  -- A refused value does not show whether a trigger changes the column.
        end;
    end loop;
    perform set_config('usersync.survey', changed::text, true);
end;
$usersync$;
select current_setting('usersync.survey')::jsonb as changed
