-- Replaces personal values in a document: strings and numbers under a key that contains one of the words.
-- usersync.personal.words_of makes the words. A test compares this function with usersync.personal.erase_keys, which
-- does the same for spooled events. Null and booleans stay. Below 32 levels everything is replaced.
create or replace function usersync.erase_keys(
    document jsonb, words text[], personal boolean default false, depth integer default 0
) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
begin
    case jsonb_typeof(document)
    when 'object' then
        if personal or depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(jsonb_object_agg(entry.key, usersync.erase_keys(
                entry.value,
                words,
                exists (select from unnest(words) as word where position(word in spelt.key) > 0),
                depth + 1
            )), '{}')
            from jsonb_each(document) as entry
            cross join lateral (
                select concat('_', regexp_replace(lower(regexp_replace(
                    regexp_replace(entry.key collate "C", '([A-Z]+)([A-Z][a-z])', '\1_\2', 'g'),
                    '([a-z0-9])([A-Z])', '\1_\2', 'g'
                )), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', '_', 'g'), '_')
            ) as spelt (key)
        );
    when 'array' then
        if depth >= 32 then
            return '"[erased]"'::jsonb;
        end if;
        return (
            select coalesce(
                jsonb_agg(usersync.erase_keys(element.value, words, personal, depth + 1) order by element.turn), '[]')
            from jsonb_array_elements(document) with ordinality as element (value, turn)
        );
    when 'string', 'number' then
        return case when personal then '"[erased]"'::jsonb else document end;
    else
        return document;
    end case;
end;
$usersync$;
comment on function usersync.erase_keys(jsonb, text[], boolean, integer) is
    'usersync: replaces the values under personal keys in a document.';
