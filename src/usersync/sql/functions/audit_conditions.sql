-- The filters of a search as a condition in SQL over a row "stored" of the audit log. The values are literals, so that
-- the planner knows them: they decide which partitions are read, and with which index.
create or replace function usersync.audit_conditions(wanted jsonb) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $usersync$
#variable_conflict use_column
declare
    templates constant jsonb := '@audit_templates'::jsonb;
    filter record;
    template text;
    conditions text[] := array['true'];
begin
    for filter in
        select key as name, value #>> '{}' as value from jsonb_each(wanted) where key not in ('actions', 'shards') order by key
    loop
        template := templates -> 'filters' ->> filter.name;
        if template is null then
            raise exception 'the installed usersync has no filter %', quote_nullable(filter.name)
                using errcode = 'US302', hint = 'It may be older than the client. Run: usersync apply';
        end if;
        if filter.name = 'action' and filter.value like '%*' then
            template := templates ->> 'prefix';
            filter.value :=
                replace(replace(replace(left(filter.value, -1), E'\\', E'\\\\'), '%', E'\\%'), '_', E'\\_') || '%';
        end if;
        if filter.name = 'words' then
            -- The text of the complete document is searched first: most documents do not contain the word, and need not
            -- be split into values. There, a word is written as in JSON.
            conditions := conditions || array(
                select format(template, word, substr(quoted, 2, length(quoted) - 2))
                from jsonb_array_elements(wanted -> 'words') as element (value),
                    lateral (select element.value #>> '{}', element.value::text) as each (word, quoted)
            );
        else
            conditions := conditions || format(template, filter.value);
        end if;
    end loop;
    -- A subscription has several actions, and its worker some of its shards.
    if wanted ? 'actions' then
        conditions := conditions || (
            select '(' || string_agg(usersync.audit_conditions(jsonb_build_object('action', each_one.action)), ' or ') || ')'
            from jsonb_array_elements_text(wanted -> 'actions') as each_one (action)
        );
    end if;
    if wanted ? 'shards' then
        conditions := conditions || format(templates ->> 'shards', translate(wanted ->> 'shards', '[]', '{}'));
    end if;
    return array_to_string(conditions, ' and ');
end;
$usersync$;
comment on function usersync.audit_conditions(jsonb) is
    'usersync: the filters of a search as a condition in SQL.';
