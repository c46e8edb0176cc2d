-- The function of the application that raised, from an error's context: null where a statement of ours did.
-- Only its name, and only what ran below us: the rest of a context may quote values.
create or replace function usersync.raised_below(error_context text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
    select substring(
        split_part(error_context, 'PL/pgSQL function usersync.', 1) from '(?:PL/pgSQL|SQL) function ([^\n]{1,200})'
    );
$usersync$;
comment on function usersync.raised_below(text) is
    'usersync: which function of the application raised, if one did.';
