-- An error message without the personal data that it may quote: e-mail addresses, and a value that is not valid for its
-- type.
create or replace function usersync.redact_message(reason text, message text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $usersync$
    select left(regexp_replace(
        case
            -- The quotation marks of all languages that PostgreSQL is translated into.
            when reason like '22%' then regexp_replace(
                message,
                '["\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019\u2039\u203a\u300c\u300d].*'
                '["\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019\u2039\u203a\u300c\u300d]',
                U&'"\2026"')
            -- A quoted local part may contain spaces.
            else regexp_replace(message, '"[^"]*["]@', '@', 'g')
        end,
        '[^\s,;<>]*@[^\s,;<>]*', '<address>', 'g'
    ), 500);
$usersync$;
comment on function usersync.redact_message(text, text) is
    'usersync: an error message without the personal data that it may quote.';
