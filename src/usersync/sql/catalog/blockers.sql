-- The sessions that hold locks on usersync's tables, the tables that it works with, or the installation lock; the
-- strongest lock first. If some locks block readers, only those. Reads the catalog only.
with watched as (
    select to_regclass(name)::oid as oid from (values ('@source_table'), ('@users_table')) as tables (name)
    union
    select to_regclass(name)::oid from unnest(array['@watched_tables']::text[]) as further (name)
    union
    select tgrelid from pg_trigger join pg_proc on pg_proc.oid = tgfoid
    where pronamespace = to_regnamespace('usersync') and not tgisinternal
    union
    select '@audit_log'::oid
    union
    select inhrelid from pg_inherits where inhparent = '@audit_log'
    union
    select oid from pg_class where relnamespace = to_regnamespace('usersync') and relkind in ('r', 'p')
),
held as (
    select
        pid,
        array_position(array[
            'AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock', 'ShareUpdateExclusiveLock',
            'RowExclusiveLock', 'RowShareLock'
        ], mode) as strength,
        mode,
        case locktype when 'advisory' then 'another change of the schema by usersync' else relation::regclass::text end as what
    from pg_locks
    where granted and pid <> pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
        and (
            locktype = 'relation' and relation in (select oid from watched)
            -- "usersync" in ASCII, as in lock_retry.py.
            or locktype = 'advisory' and objsubid = 1
            and (classid::bigint << 32 | objid::bigint) = x'7573657273796e63'::bigint
        )
),
strongest as (
    select distinct on (pid) held.* from held where strength is not null order by pid, strength, what
)
select
    strongest.pid,
    coalesce(usename, 'unknown')::text as "user",
    strongest.what,
    strongest.mode,
    coalesce(state, 'unknown') as state,
    coalesce(xact_start, backend_start) as since,
    left(regexp_replace(coalesce(query, ''), '\s+', ' ', 'g'), 200) as query
from strongest
join pg_stat_activity using (pid)
where strongest.strength <= 3 or not exists (select from strongest as stronger where stronger.strength <= 3)
order by strongest.strength, since
limit 3
