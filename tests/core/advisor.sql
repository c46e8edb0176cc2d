-- What Supabase's security and performance advisor would report, written anew from the description of its lints
-- (github.com/supabase/splinter): one query, a line for each finding. Of the 28 lints those that an object of
-- usersync's could run into. Run as superuser. "public" and "graphql_public" are exposed, as by default.
with
exposed as (select 'public' as name union all select 'graphql_public'),
ours as (
    select oid, nspname from pg_namespace
    where nspname !~ '^pg_'
        and nspname not in ('information_schema', 'auth', 'extensions', 'recorder', 'graphql', 'vault', 'storage')
),
api as (select rolname, oid from pg_roles where rolname in ('anon', 'authenticated')),
tables as (
    select class.oid, ours.nspname, class.relname, class.relkind, class.relrowsecurity, class.reloptions,
        ours.nspname in (select name from exposed) as is_exposed,
        (select bool_or(has_table_privilege(api.oid, class.oid, 'SELECT')) from api) as is_readable
    from pg_class as class join ours on ours.oid = class.relnamespace
    where class.relkind in ('r', 'p', 'v', 'm', 'f')
),
functions as (
    select function.*, ours.nspname, ours.nspname in (select name from exposed) as is_exposed
    from pg_proc as function join ours on ours.oid = function.pronamespace
    where not exists (select from pg_depend where objid = function.oid and deptype = 'e')
),
-- A policy's expression, and for whom it is.
policies as (
    select policy.polname, policy.polcmd, policy.polpermissive, policy.polroles, tables.*,
        pg_get_expr(policy.polqual, policy.polrelid) as reads,
        pg_get_expr(policy.polwithcheck, policy.polrelid) as writes
    from pg_policy as policy join tables on tables.oid = policy.polrelid
),
views_of_auth_users as (
    select distinct tables.*
    from tables
    join pg_rewrite as rule on rule.ev_class = tables.oid
    join pg_depend as needs on needs.objid = rule.oid and needs.refobjid = 'auth.users'::regclass
    where tables.relkind in ('v', 'm')
)
select '0001' as lint, conrelid::regclass || ' ' || conname as object
from pg_constraint as foreign_key
join tables on tables.oid = foreign_key.conrelid
where contype = 'f' and not exists (
    select from pg_index as index
    where index.indrelid = foreign_key.conrelid
        and (index.indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
)
union all
select '0002', nspname || '.' || relname from views_of_auth_users where is_exposed and is_readable
union all
-- A call per row, where (select …) would be one per statement.
select '0003', nspname || '.' || relname || ' ' || polname from policies
where regexp_replace(concat(reads, writes), '\(\s*SELECT\s+auth\.\w+\(\)', '', 'gi')
        ~* 'auth\.(uid|jwt|role|email)\(\)|current_setting\('
union all
select '0004', nspname || '.' || relname from tables
where relkind in ('r', 'p') and not exists (
    select from pg_index where indrelid = tables.oid and indisprimary
)
union all
select '0006', string_agg(distinct one.nspname || '.' || one.relname, ', ')
from policies as one
join policies as other on other.oid = one.oid and other.polname > one.polname
    and one.polpermissive and other.polpermissive
    and (one.polcmd = other.polcmd or '*' in (one.polcmd, other.polcmd))
    and (one.polroles && other.polroles or 0 = any(one.polroles || other.polroles))
group by one.oid
union all
select '0007', nspname || '.' || relname || ' ' || polname from policies where not relrowsecurity
union all
select '0008', nspname || '.' || relname from tables
where relrowsecurity and not exists (select from policies where policies.oid = tables.oid)
union all
select '0009', one.indexrelid::regclass || ' = ' || other.indexrelid::regclass
from pg_index as one
join pg_index as other on other.indrelid = one.indrelid and other.indexrelid > one.indexrelid
    and other.indkey = one.indkey and other.indclass = one.indclass and other.indoption = one.indoption
    and other.indpred::text is not distinct from one.indpred::text
    and other.indexprs::text is not distinct from one.indexprs::text
join tables on tables.oid = one.indrelid
union all
select '0010', nspname || '.' || relname from tables
where relkind = 'v' and is_exposed and is_readable
    and not coalesce(reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
union all
select '0011', oid::regprocedure::text from functions
where not exists (select from unnest(proconfig) as setting where setting like 'search_path=%')
union all
-- An anonymous session is "authenticated" too.
select '0012', nspname || '.' || relname || ' ' || polname from policies
where polpermissive and (polroles && array(select oid from api) or polroles = array[0::oid])
    and concat(reads, writes) !~ 'is_anonymous' and coalesce(nullif(reads, 'false'), writes, 'true') <> 'false'
union all
select '0013', nspname || '.' || relname from tables
where relkind in ('r', 'p') and is_exposed and is_readable and not relrowsecurity
union all
select '0015', nspname || '.' || relname || ' ' || polname from policies
where concat(reads, writes) ~* 'user_metadata'
union all
select '0016', nspname || '.' || relname from tables where relkind = 'm' and is_exposed and is_readable
union all
select '0021', conrelid::regclass || ' ' || conname
from pg_constraint
where contype = 'f' and confrelid = 'auth.users'::regclass and conrelid in (select oid from tables)
    and not exists (select from pg_index where indexrelid = conindid and indisprimary)
union all
select '0023', nspname || '.' || relname || ' ' || attname
from tables join pg_attribute on attrelid = tables.oid and attnum > 0 and not attisdropped
where is_exposed and is_readable and not relrowsecurity
    and attname ~* 'password|passwd|secret|token|api_?key|private_?key|session_?id|ssn|credit_?card|card_?number|cvv|otp'
union all
select '0024', nspname || '.' || relname || ' ' || polname from policies
where polpermissive and polcmd in ('a', 'w', 'd', '*')
    and (coalesce(writes, reads) = 'true' or (polcmd <> 'a' and reads = 'true'))
union all
select case api.rolname when 'anon' then '0026' else '0027' end, nspname || '.' || relname
from tables join api on has_table_privilege(api.oid, tables.oid, 'SELECT')
where exists (select from pg_namespace where nspname = 'graphql')
union all
select case api.rolname when 'anon' then '0028' else '0029' end, functions.oid::regprocedure::text
from functions join api on has_function_privilege(api.oid, functions.oid, 'EXECUTE')
where prosecdef and is_exposed
order by 1, 2
