-- Tests the mapping on a sample of users without writing: which values are not valid for their column, which check
-- constraints would refuse the row, and which values another row has. A DO block returns nothing, so the result is in a
-- setting of the transaction.
do $usersync$
declare
    names text[] := array['@mapped_columns'];
    expressions text[] := array['@mapped_expressions'];
    user_id uuid;
    subscript integer;
    value jsonb;
    made jsonb;
    passes boolean;
    rule record;
    tried integer := 0;
    failed jsonb := '{}';
    noted text[];
    entry text;
begin
    for user_id in
        select source."id" from "@source_table" as source where source."deleted_at" is null order by source."id" limit 200
    loop
        tried := tried + 1;
        made := '{}';
        noted := '{}';
        for subscript in 1 .. cardinality(names) loop
            begin
                execute format(
                    'select to_jsonb((jsonb_populate_record(null::%s, jsonb_build_object(%L, %s))).%I) from %s as source '
                    'where source."id" = $1',
                    '@users_table', names[subscript], expressions[subscript], names[subscript], '@source_table'
                ) into value using user_id;
                made := made || jsonb_build_object(names[subscript], value);
                if coalesce(value, 'null') = 'null' then
                    noted := noted || format('absent %s', names[subscript]);
                end if;
            exception when others or assert_failure then
                noted := noted || format('misfit %s', names[subscript]);
            end;
        end loop;
        for rule in
            select conname, pg_get_expr(conbin, conrelid) as condition, contype, attname
            from pg_constraint
            left join pg_attribute on attrelid = conrelid and conkey = array[attnum]
            where conrelid = '@users_table'::regclass and (
                contype = 'c' and exists (
                    select from pg_attribute as checked
                    where checked.attrelid = conrelid and checked.attnum = any(conkey) and checked.attname = any(names)
                )
                or contype = 'u' and attname = any(names)
            )
        loop
            begin
                if rule.contype = 'c' then
                    execute format('select (%s) is not false from jsonb_populate_record(null::%s, $1)', rule.condition, '@users_table')
                    into passes using made;
                    if not passes then
                        noted := noted || format('refused %s', rule.conname);
                    end if;
                else
                    execute format(
                        'select exists (select from %s as target where target.%I = '
                        '(jsonb_populate_record(null::%s, $1)).%I and target.%I::text is distinct from $2::text)',
                        '@users_table', rule.attname, '@users_table', rule.attname, '@key'
                    ) into passes using made, user_id;
                    if passes then
                        noted := noted || format('taken %s', rule.attname);
                    end if;
                end if;
            exception when others or assert_failure then
                noted := noted || format('untried %s', rule.conname);
            end;
        end loop;
        foreach entry in array noted loop
            failed := failed || jsonb_build_object(entry, coalesce((failed ->> entry)::integer, 0) + 1);
        end loop;
    end loop;
    perform set_config('usersync.trial', jsonb_build_object('tried', tried, 'failed', failed)::text, true);
end;
$usersync$;
select current_setting('usersync.trial')::jsonb as trial
