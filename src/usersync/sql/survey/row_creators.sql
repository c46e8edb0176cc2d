-- Other sources of rows and values in the users table: policies and grants that let a signed-in user insert a row, and
-- functions whose text updates a column of the table. Reads the catalog only.
with target as (
    select pg_class.*, nspname
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = to_regclass(%(users_table)s)
),
words as (
    select regexp_replace(nspname, '([^\w])', '\\\1', 'g') as schema, regexp_replace(relname, '([^\w])', '\\\1', 'g') as name
    from target
)
select
    array(
        select polname::text from pg_policy
        where polrelid = target.oid and polcmd in ('a', '*') and polpermissive
            and (0 = any(polroles) or to_regrole('authenticated')::oid = any(polroles))
            -- A policy with the check false is only for servers that bypass row-level security.
            and coalesce(pg_get_expr(polwithcheck, polrelid), pg_get_expr(polqual, polrelid), 'true') <> 'false'
        order by 1
    ) as policies,
    target.relrowsecurity and to_regrole('authenticated') is not null
        and has_table_privilege('authenticated', target.oid, 'INSERT') as may_insert,
    (
        select coalesce(jsonb_object_agg(updated.attname, updated.functions), '{}')
        from (
            select attname, jsonb_agg(distinct jsonb_build_object('name', pg_proc.oid::regprocedure::text, 'is_of_source', exists (
                select from pg_trigger where tgfoid = pg_proc.oid and tgrelid = to_regclass(%(source_table)s)
            ))) as functions
            from words
            cross join pg_attribute
            join pg_proc on coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc) ~* (
                '\mupdate\s+(only\s+)?("?' || words.schema || '"?\s*\.\s*)?"?' || words.name
                || '"?\s((?!\mset\M)[^;])*\mset\M((?!\m(where|from)\M)[^;])*"?'
                || regexp_replace(attname, '([^\w])', '\\\1', 'g') || '"?\s*='
            )
            join pg_namespace on pg_namespace.oid = pronamespace
            where attrelid = target.oid and attnum > 0 and not attisdropped
                and nspname !~ '^(pg_|information_schema$|auth$|storage$|realtime$|vault$|graphql|net$|cron$|extensions$|usersync$|supabase)'
            group by attname
        ) as updated
    ) as updated
from target
