"""The objects of a database as text, so that a test can compare them before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from usersync.testing import SupabaseDatabase

#: Each row is a kind of object, a name and a text. The MAINTAIN privilege exists since PostgreSQL 17, and NOT
#: NULL constraints with a name since 18. Both are left out, so that versions compare equal.
CATALOG = r"""
with spaces as (
    select *, format('%I', nspname) as name from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
),
relations as (
    select pg_class.*, format('%s.%I', spaces.name, relname) as name from pg_class
    join spaces on spaces.oid = relnamespace where relkind in ('r', 'p', 'v', 'm', 'S', 'f')
),
routines as (
    select pg_proc.*, format('%s.%I(%s)', spaces.name, proname, oidvectortypes(proargtypes)) as name
    from pg_proc join spaces on spaces.oid = pronamespace where prokind in ('f', 'p')
),
grants (heading, name, acl, owner) as (
    select 'schema', name, nspacl, nspowner from spaces
    union all select 'table', name, relacl, relowner from relations
    union all select 'function', name, coalesce(proacl, acldefault('f', proowner)), proowner from routines
)
select 'schema' as heading, name, format(
    'owner %s; %s', nspowner::regrole, obj_description(oid, 'pg_namespace')) as body from spaces
union all select 'table', name, format('kind %s; owner %s; rls %s %s; %s', relkind, relowner::regrole,
    relrowsecurity, relforcerowsecurity, obj_description(oid, 'pg_class')) from relations
union all select 'table', relations.name || ' column ' || quote_ident(attname), concat_ws('; ',
    format_type(atttypid, atttypmod), case when attnotnull then 'not null' end,
    nullif(attidentity::text || attgenerated::text, ''), 'default ' || pg_get_expr(adbin, adrelid),
    col_description(attrelid, attnum))
    from pg_attribute join relations on relations.oid = attrelid
    left join pg_attrdef on adrelid = attrelid and adnum = attnum where attnum > 0 and not attisdropped
union all select 'table', relations.name || ' constraint ' || quote_ident(conname),
    pg_get_constraintdef(pg_constraint.oid)
    from pg_constraint join relations on relations.oid = conrelid where contype not in ('n', 't')
union all select 'table', relations.name || ' index', pg_get_indexdef(indexrelid)
    from pg_index join relations on relations.oid = indrelid
union all select 'table', relations.name || ' policy ' || quote_ident(polname), format(
    '%s to %s using %s check %s', polcmd,
    array(select member::regrole::text from unnest(polroles) as member order by 1),
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    from pg_policy join relations on relations.oid = polrelid
union all select 'function', name, format(E'owner %s; %s\n%s', proowner::regrole,
    obj_description(oid, 'pg_proc'), rtrim(pg_get_functiondef(oid))) from routines
union all select 'trigger', format('%I on %s', tgname, relations.name), format('%s; enabled %s',
    pg_get_triggerdef(pg_trigger.oid), tgenabled)
    from pg_trigger join relations on relations.oid = tgrelid where not tgisinternal
union all select heading,
    name || ' granted to ' || case when grantee = 0 then 'everybody' else grantee::regrole::text end,
    string_agg(privilege_type || case when is_grantable then ' with grant option' else '' end, ', '
        order by privilege_type)
    from grants cross join aclexplode(acl) where privilege_type <> 'MAINTAIN' and grantee <> owner
    group by heading, name, grantee
order by 1, 2, 3
"""

Catalog = dict[tuple[str, str], str]


def read_catalog(connection: psycopg.Connection[Any]) -> Catalog:
    """All objects of the database that are not PostgreSQL's own, by kind and name."""
    connection.execute("set search_path = pg_catalog")
    found: Catalog = {}
    for heading, name, body in connection.execute(CATALOG).fetchall():
        key = (heading, name)
        found[key] = f"{found[key]}\n{body}" if key in found else body
    return found


@pytest.fixture
def catalog(database: SupabaseDatabase, superuser: psycopg.Connection[Any]) -> Callable[[], Catalog]:
    """A function that reads the catalog of the test's database."""
    return lambda: read_catalog(superuser)
