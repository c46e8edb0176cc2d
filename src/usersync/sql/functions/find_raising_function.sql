-- The function of the application that raised, from an error's context: null where a statement of ours did. Only its
-- name, and only what ran below us: the rest of a context may quote values.
--
-- A context has a line for each function and statement, the innermost first, in the language of lc_messages. So nothing
-- is decided by its words: what ran below us stands before the line of our statement, which is known by its text. Where
-- no statement of ours is there, our function itself was the innermost.
create or replace function usersync.find_raising_function(error_context text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $usersync$
declare
    -- Up to the first function of ours.
    below text := split_part(error_context, 'usersync.', 1);
    statement text;
    start integer;
    first_start integer := 0;
begin
    foreach statement in array array[
        'insert into ' || '@users_table', 'update ' || '@users_table', 'delete from ' || '@users_table', 'set constraints '
    ] loop
        -- The last one is ours: an application's trigger may write to the table as well.
        start := length(below) - coalesce(
            nullif(position(reverse(statement) in reverse(below)), 0) + length(statement) - 1, length(below));
        first_start := greatest(first_start, start);
    end loop;
    below := left(below, first_start);
    -- A trigger's function is in PL/pgSQL, PL/Python and so on, which every translation names. What foreign keys do of
    -- their own accord has no such line.
    below := substring(below from '[^\n]*PL/[^\n]*');
    -- Of that line the function's name with its arguments, wherever the sentence has them.
    return case when below is not null then coalesce(
        substring(below from 'function ([^\n]{1,200})'),
        substring(below from '([[:alnum:]_.$"]+\([^()]{0,200}\)[^\n]{0,60})'),
        left(below, 200)
    ) end;
end;
$usersync$;
comment on function usersync.find_raising_function(text) is
    'usersync: which function of the application raised, if one did.';
