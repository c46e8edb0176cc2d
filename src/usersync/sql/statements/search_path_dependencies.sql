-- The triggers of the users table, and the names that their functions find only through the caller's search path.
-- usersync's search path is pg_catalog, so they do not find these names. A word in a function's text counts if it is in
-- the place of a function, a relation or a type, has no schema, and exists only outside of pg_catalog. Called functions
-- run with the same search path and are read too, unless they set their own. Quoted texts count only in functions that
-- contain EXECUTE.
with recursive reached as (
    select tgfoid as root, tgfoid as oid, 0 as depth
    from pg_trigger
    where tgrelid = to_regclass('@users_table') and not tgisinternal and tgenabled <> 'D'
    union
    select reached.root, called.oid, reached.depth + 1
    from reached
    join pg_proc as caller on caller.oid = reached.oid
    cross join lateral regexp_split_to_table(lower(caller.prosrc), '[^\w.]+') as word
    join pg_proc as called on called.proname = split_part(word, '.', -1)
    where reached.depth < 4
        and called.pronamespace <> 'pg_catalog'::regnamespace
        and coalesce(caller.proconfig::text, '') !~ 'search_path='
        and (
            position('.' in word) = 0
            or called.pronamespace = to_regnamespace(quote_ident(split_part(word, '.', -2)))
        )
),
texts as (
    select pg_proc.oid, regexp_replace(
        case when prosrc ~* '\mexecute\M' then replace(prosrc, '''', ' ') else regexp_replace(prosrc, '''[^'']*''', ' ', 'g') end,
        '--[^\n]*|/\*.*?\*/', ' ', 'g'
    ) as body
    from pg_proc
    join pg_language on pg_language.oid = prolang
    where pg_proc.oid in (select reached.oid from reached)
        and lanname in ('sql', 'plpgsql')
        and coalesce(proconfig::text, '') !~ 'search_path='
        -- The names in a BEGIN ATOMIC body were resolved when the function was created.
        and prosqlbody is null
),
relying as (
    select distinct texts.oid, word
    from texts
    cross join lateral regexp_split_to_table(lower(texts.body), '[^\w.]+') as word
    where word ~ '^[^\d\W]\w*$' and (
        texts.body ~* format('\m(?<!\.)%s\s*\(', word)
        and exists (select from pg_proc where proname = word and pronamespace <> 'pg_catalog'::regnamespace)
        and not exists (select from pg_proc where proname = word and pronamespace = 'pg_catalog'::regnamespace)
        or texts.body ~* format('\m(from|into|join|update|only|table)\s+%s\M(?!\s*\.)', word)
        and exists (
            select from pg_class
            where relname = word and relkind in ('r', 'p', 'v', 'm') and relnamespace <> 'pg_catalog'::regnamespace
        )
        or texts.body ~* format('::\s*%s\M(?!\s*\.)', word)
        and exists (select from pg_type where typname = word and typnamespace <> 'pg_catalog'::regnamespace)
        and not exists (select from pg_type where typname = word and typnamespace = 'pg_catalog'::regnamespace)
    )
)
select
    tgname as name,
    tgfoid::regprocedure::text as function,
    pg_has_role(proowner, 'USAGE') as is_ours,
    prosrc as body,
    array(
        select distinct relying.word
        from relying
        join reached on reached.oid = relying.oid
        where reached.root = tgfoid
        order by relying.word
    ) as names,
    (
        select string_agg(quote_ident(path.name), ', ' order by path.turn)
        from (
            select candidate.name, min(candidate.turn) as turn
            from (values (nspname, 1), ('public', 2), ('extensions', 3)) as candidate (name, turn)
            join pg_namespace as present on present.nspname = candidate.name
            group by candidate.name
        ) as path
    ) as search_path
from pg_trigger
join pg_proc on pg_proc.oid = tgfoid
join pg_namespace on pg_namespace.oid = pronamespace
where tgrelid = to_regclass('@users_table') and not tgisinternal and tgenabled <> 'D'
order by tgname
