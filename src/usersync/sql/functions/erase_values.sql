-- Replaces strings and numbers in a document that contain one of the given values, under any key. The comparison
-- ignores case.
create or replace function usersync.erase_values(document jsonb, wanted text[]) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    if document is null or not exists (
        select from unnest(wanted) as value
        where strpos(lower(document::text), lower(trim(both '"' from to_json(value)::text))) > 0
    ) then
        return document;
    end if;
    case jsonb_typeof(document)
    when 'object' then
        return (
            select jsonb_object_agg(entry.key, usersync.erase_values(entry.value, wanted))
            from jsonb_each(document) as entry
        );
    when 'array' then
        return (
            select jsonb_agg(usersync.erase_values(element.value, wanted) order by element.turn)
            from jsonb_array_elements(document) with ordinality as element (value, turn)
        );
    else
        return '"[erased]"'::jsonb;
    end case;
end;
$usersync$;
comment on function usersync.erase_values(jsonb, text[]) is
    'usersync: replaces strings and numbers in a document that contain one of the given values.';
