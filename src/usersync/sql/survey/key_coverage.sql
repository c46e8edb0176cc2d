-- Whether the values of columns that could be the key are ids of auth users, counted on a sample in both directions. A
-- DO block returns nothing, so a setting of the transaction passes the columns in and the result out, as JSON.
do $usersync$
declare
    wanted jsonb;
    counted jsonb;
    found jsonb := '[]';
begin
    for wanted in select value from jsonb_array_elements(current_setting('usersync.survey')::jsonb) loop
        begin
            execute format(
                'with sampled as (select %1$I::text as id from %2$s where %1$I is not null limit 1000), '
                'people as (select source."id" from %3$s as source where source."deleted_at" is null '
                'order by source."id" limit 1000) '
                'select jsonb_build_object(''values'', (select count(*) from sampled), '
                '''known'', (select count(*) from sampled where exists (select from %3$s as source '
                'where source."id" = case when sampled.id ~* %5$L then sampled.id::uuid end)), '
                '''without_key'', (select count(*) from (select from %2$s where %1$I is null limit 1000) as empty), '
                '''users'', (select count(*) from people), '
                '''with_row'', (select count(*) from people where exists (select from %2$s as target '
                'where target.%1$I = people."id"::text::%4$s)))',
                wanted ->> 'column', wanted ->> 'table', current_setting('usersync.source'), wanted ->> 'type',
                '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
            ) into counted;
        exception when others then
            counted := null;
        end;
        found := found || jsonb_build_array(counted);
    end loop;
    perform set_config('usersync.survey', found::text, true);
end;
$usersync$;
select current_setting('usersync.survey')::jsonb as found
