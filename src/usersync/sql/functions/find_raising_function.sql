-- Finds the application's function that raised, in an error's context. Null if a statement of usersync raised. Returns
-- only the function's name: the rest of a context may quote values.
--
-- A context has a line for each function and statement, the innermost first, in the language of lc_messages. So the
-- function does not read its words. It searches for the text of usersync's own statement: the lines before it belong to
-- functions that the statement called. If no such statement is found, usersync's function itself was the innermost.
create or replace function usersync.find_raising_function(error_context text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    -- The context up to the first usersync function.
    below text := split_part(error_context, 'usersync.', 1);
    statement text;
    start integer;
    first_start integer := 0;
begin
    foreach statement in array array[
        'insert into ' || '@users_table', 'update ' || '@users_table', 'delete from ' || '@users_table', 'insert into ' || '@audit_table',
        'set constraints '
    ] loop
        -- The last match is usersync's statement: a trigger of the application may write to the table as well.
        start := length(below) - coalesce(
            nullif(position(reverse(statement) in reverse(below)), 0) + length(statement) - 1, length(below));
        first_start := greatest(first_start, start);
    end loop;
    below := left(below, first_start);
    -- Every translation contains the name of the language: PL/pgSQL, PL/Python. The actions of foreign keys have no
    -- such line.
    below := substring(below from '[^\n]*PL/[^\n]*');
    -- The function's name with its arguments, at any place of the line.
    return case when below is not null then coalesce(
        substring(below from 'function ([^\n]{1,200})'),
        substring(below from '([[:alnum:]_.$"]+\([^()]{0,200}\)[^\n]{0,60})'),
        left(below, 200)
    ) end;
end;
$usersync$;
comment on function usersync.find_raising_function(text) is
    'usersync: the application''s function that raised an error; null if none did.';
