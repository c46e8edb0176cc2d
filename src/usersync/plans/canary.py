"""What the canary asks of the database around the auth server's requests. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.core.privileges import missing_privileges
from usersync.mapping import quote
from usersync.models import Finding
from usersync.plans.doctor.replay import Attempt, Fault, MovedSequence
from usersync.plans.doctor.roles import settings_in_force
from usersync.plans.network import callers
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from usersync.settings import Settings
    from usersync.transports.steps import Plan, Row

#: What a database must have for the requests to be those that its auth server sends.
AUTH_SERVERS_TABLE = '"auth"."users"'

_STAGE = """
    select
        current_user as role,
        current_setting('transaction_read_only')::boolean as read_only,
        pg_is_in_recovery() as standby,
        to_regclass('usersync.sync_failures') is not null as installed,
        pg_get_userbyid(relowner) as auth_role,
        pg_has_role(relowner, case when current_setting('server_version_num')::integer >= 160000
            then 'SET' else 'MEMBER' end) as may_assume,
        (
            select coalesce(jsonb_object_agg(tables.relname, columns.names), '{}')
            from pg_class as tables
            cross join lateral (
                select jsonb_agg(attname) as names from pg_attribute
                where attrelid = tables.oid and attnum > 0 and not attisdropped and attgenerated = ''
            ) as columns
            where tables.relnamespace = pg_class.relnamespace and tables.relkind in ('r', 'p')
        ) as tables,
        array(
            select distinct format('%%I.%%I', nspname, conname)
            from pg_constraint join pg_namespace on pg_namespace.oid = connamespace
            where condeferred
        ) as deferred,
        array(
            select privilege from unnest(array['select', 'insert', 'update', 'delete']) as privilege
            where not has_table_privilege(pg_class.oid, privilege)
        ) as own_lacks
    from pg_class
    where oid = to_regclass(%(source_table)s)
"""

_NEEDED = ("users", "identities", "sessions", "refresh_tokens")


@dataclass(frozen=True)
class Stage:
    """Where the requests are made, and by whom."""

    role: str = ""
    auth_role: str = ""
    may_assume: bool = False
    search_path: str = ""
    #: The columns of each of the auth server's tables.
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The constraints that wait for COMMIT, quoted.
    deferred: tuple[str, ...] = ()
    calling_out: tuple[str, ...] = ()
    obstacle: Finding | None = None


def prepare(settings: Settings, *, call_out: bool) -> Plan[Stage]:
    """Look whether the requests can be made here, and as whom."""
    if settings.source_table.quoted != AUTH_SERVERS_TABLE:
        there = f"the auth server has a database of its own, and users come here from {settings.source_table}"
        return Stage(
            obstacle=Finding(
                "D033", "trial", there, "-- Watch what arrives with: usersync doctor --only D017"
            )
        )
    rows = yield from query(_STAGE, source_table=settings.source_table.quoted)
    if not rows:
        there = f"there is no table {settings.source_table} in this database"
        return Stage(obstacle=Finding("D033", "trial", there, "usersync doctor --only D001"))
    row = rows[0]
    if (obstacle := _obstacle(row)) is not None:
        return Stage(row["role"], row["auth_role"], row["may_assume"], obstacle=obstacle)
    calling_out = yield from _calling_out(settings)
    path = yield from settings_in_force(settings, "search_path")
    return Stage(
        row["role"],
        row["auth_role"],
        row["may_assume"],
        next((each["value"] for each in path if each["is_auth_server"]), '"$user", public'),
        {name: tuple(columns) for name, columns in row["tables"].items()},
        tuple(row["deferred"]),
        calling_out,
        None if call_out or not calling_out else _WOULD_CALL_OUT,
    )


_WOULD_CALL_OUT = Finding(
    "D033",
    "trial",
    "a trigger does what no rollback takes back (see D035)",
    "-- If whoever is asked does not mind:\nusersync doctor --canary --call-out",
)


def _obstacle(row: Row) -> Finding | None:
    if row["standby"] or row["read_only"]:
        what = "this server is a standby" if row["standby"] else "this database takes no writes at the moment"
        return Finding(
            "D033",
            "trial",
            f"{what}, so nobody can sign up in it",
            "-- Examine the primary, or wait until it can be written.",
        )
    if not row["installed"]:
        return Finding(
            "D033", "trial", "usersync is not installed in this database", "usersync doctor --only D002,D003"
        )
    if missing := [name for name in _NEEDED if name not in row["tables"]]:
        return Finding(
            "D033",
            "trial",
            f"the auth server's schema has no table {', '.join(missing)}",
            "-- Start the auth server, which makes its tables.",
        )
    if row["own_lacks"] and not row["may_assume"]:
        return Finding(
            "D033",
            "trial",
            f"{row['role']} may not {', '.join(row['own_lacks'])} in {AUTH_SERVERS_TABLE}, nor take the role "
            f"{row['auth_role']}",
            f"-- On a server of your own, as a superuser: grant {row['auth_role']} to {row['role']};",
        )
    return None


def _calling_out(settings: Settings) -> Plan[tuple[str, ...]]:
    tables = [f'"auth"."{name}"' for name in (*_NEEDED, "one_time_tokens", "mfa_factors")]
    found = yield from callers([*tables, settings.users_table.quoted])
    return tuple(str(each) for each in found if each.at_once)


_SEQUENCES = """
    select format('%I.%I', schemaname, sequencename) as name, last_value as value, start_value as start,
        increment_by as step
    from pg_sequences
    where schemaname !~ '^pg_'
"""


def sequences() -> Plan[Mapping[str, Row]]:
    """Where each sequence is that this role can see."""
    return {row["name"]: row for row in (yield from query(_SEQUENCES))}


_TWO_KEYS = "(%(key)s::bigint >> 32)::integer, %(key)s::bigint::bit(32)::integer"
# Of the session itself: those of a transaction are gone with the savepoint that they were taken in.
_ADVISORY_LOCKS = """
    select classid::bigint << 32 | objid::bigint as key, objsubid as parts, mode = 'ShareLock' as shared
    from pg_locks
    where locktype = 'advisory' and granted and pid = pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
"""


def advisory_locks() -> Plan[set[tuple[int, int, bool]]]:
    """The advisory locks of this session, by key, its parts, and whether it is shared."""
    rows = yield from query(_ADVISORY_LOCKS)
    return {(row["key"], row["parts"], row["shared"]) for row in rows}


def release_advisory_locks(kept: set[tuple[int, int, bool]]) -> Plan[None]:
    """Release those that triggers have taken for the session, which no rollback does."""
    while left := (yield from advisory_locks()) - kept:
        for key, parts, shared in left:
            function = f"pg_advisory_unlock{'_shared' if shared else ''}"
            places = "%(key)s::bigint" if parts == 1 else _TWO_KEYS
            done = yield from query_row(f"select {function}({places}) as released", key=key)
            if not done["released"]:
                return


def drawn_from(before: Mapping[str, Row], name: str, now: Row) -> Plan[MovedSequence | None]:
    """What this session has drawn from a sequence that moved; raises where it has drawn nothing."""
    own = (yield from query_row("select currval(%(name)s::regclass) as value", name=name))["value"]
    was = before.get(name, {"value": None})["value"]
    drawn = (own - (now["start"] - now["step"] if was is None else was)) // now["step"]
    # A pooler's session may have drawn from it long ago, and others do all the time.
    return MovedSequence(name, drawn) if drawn > 0 else None


def witness(settings: Settings, step: str, user_id: UUID) -> Plan[Attempt]:
    """What a request that went through has left of its user in the users table and in the ledger."""
    noted = yield from query(_NOTED.format(source=settings.source_table.quoted), id=user_id)
    failure = noted[0] if noted else None
    # Of somebody who is gone the ledger may tell what was: it counts if the row is not as it should be.
    if failure is not None and failure["exists"]:
        return (yield from _of_ledger(step, failure))
    unlike = yield from query("select * from usersync.unlike_users(array[%(id)s]::uuid[], true)", id=user_id)
    if not unlike:
        return Attempt(step, "ok")
    if failure is not None:
        return (yield from _of_ledger(step, failure))
    missing = unlike[0]["sqlstate"] == "US002" and (yield from _is_without_row(settings, user_id))
    return Attempt(step, "failed" if missing else "differs", _difference(unlike[0]))


_NOTED = """
    select failure.*, exists (select from {source} as source where source.id = failure.user_id) as exists
    from usersync.sync_failures as failure
    where failure.user_id = %(id)s
"""


def _of_ledger(step: str, failure: Row) -> Plan[Attempt]:
    return Attempt(step, failure["outcome"], (yield from _with_trigger(_fault(failure))))


def _fault(row: Row) -> Fault:
    return Fault(
        row["sqlstate"], row["message"], row["constraint_name"], row["column_name"], row["raised_in"]
    )


def _difference(row: Row) -> Fault:
    return Fault(row["sqlstate"], row["message"], column=row["column_names"])


def _is_without_row(settings: Settings, user_id: UUID) -> Plan[bool]:
    key, table = quote(settings.key), settings.users_table.quoted
    return not (yield from query(f"select from {table} where {key} = %(id)s", id=user_id))


_TRIGGER = """
    select tgname || ' on ' || tgrelid::regclass as trigger
    from pg_trigger
    where tgfoid::regprocedure = any(array(
            select to_regprocedure(name) from unnest(%(functions)s::text[]) as name
        ))
        and not tgisinternal
    order by array_position(%(functions)s::text[], tgfoid::regprocedure::text) desc, 1
    limit 1
"""


def refused(step: str, fault: Fault, functions: list[str]) -> Plan[Attempt]:
    """A request that the database refused; ``functions`` ran when it did, the innermost first."""
    return Attempt(step, "refused", (yield from _with_trigger(fault, functions)))


def _with_trigger(fault: Fault, functions: list[str] | None = None) -> Plan[Fault]:
    ran = functions or ([_called(fault.raised_in)] if fault.raised_in else [])
    rows: list[Any] = (yield from query(_TRIGGER, functions=ran)) if ran else []
    trigger = rows[0]["trigger"] if rows else None
    raised_in = _called(fault.raised_in) if fault.raised_in else None
    return Fault(fault.sqlstate, fault.message, fault.constraint, fault.column, raised_in, trigger)


def _called(raised_in: str) -> str:
    """The signature, of what a context says: ``public.f() line 3 at RAISE``."""
    return raised_in.partition(") ")[0].rstrip(")") + ")"


# By the words that stand before a name: what is built together at run time is missed.
_LACKING = r"""
    with auth_server as (
        select relowner as role from pg_class where oid = to_regclass(%(source_table)s)
    ),
    triggers as (
        select tgname, pg_proc.oid::regprocedure::text as function, lower(regexp_replace(
            coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc), '--[^\n]*|/\*.*?\*/', ' ', 'g'
        )) as body
        from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        where tgrelid = to_regclass(%(source_table)s)
            and not tgisinternal and tgenabled <> 'D' and not prosecdef
    ),
    named as (
        select distinct tgname, function, verb.name as verb, coalesce(
            to_regclass(case when position('.' in match[2]) > 0 then match[2] end),
            to_regclass('public.' || case when position('.' in match[2]) = 0 then match[2] end)
        ) as relation
        from triggers
        cross join regexp_matches(
            body,
            '\m(insert\s+into|update|delete\s+from|from|join)\s+((?:\w+|"[^"]+")(?:\.(?:\w+|"[^"]+"))?)',
            'g'
        ) as match
        cross join lateral (
            select case left(match[1], 6) when 'insert' then 'insert' when 'update' then 'update'
                when 'delete' then 'delete' else 'select' end as name
        ) as verb
    ),
    lacking as (
        select tgname, function, verb, relation, relnamespace::regnamespace::text as home,
            auth_server.role::regrole::text as role,
            has_schema_privilege(auth_server.role, relnamespace, 'usage') as reaches,
            has_any_column_privilege(auth_server.role, relation, replace(verb, 'delete', 'select'))
                and (verb <> 'delete' or has_table_privilege(auth_server.role, relation, 'delete')) as may,
            relrowsecurity and not (rolbypassrls or rolsuper)
                and (relforcerowsecurity or not pg_has_role(auth_server.role, relowner, 'usage'))
                and not exists (
                    select from pg_policy
                    where polrelid = relation and (0 = any(polroles) or auth_server.role = any(polroles))
                        and polcmd in ('*', case verb when 'insert' then 'a' when 'update' then 'w'
                            when 'delete' then 'd' else 'r' end::"char")
                ) as hidden
        from named
        cross join auth_server
        join pg_class on pg_class.oid = named.relation
        join pg_roles on pg_roles.oid = auth_server.role
    )
    select
        'trigger ' || tgname as subject,
        format('the trigger %%s runs %%s with the rights of %%s, who %%s', tgname, function, role, case
            when not reaches then format('lacks USAGE on schema %%s', home)
            when not may then format('lacks %%s on table %%s', upper(verb), relation)
            else format('no policy of %%s lets %%s', relation, upper(verb)) end
        ) as detail,
        format(E'-- Or let it run as its owner: alter function %%s security definer;\n%%s', function, case
            when not reaches then format('grant usage on schema %%s to %%s;', home, role)
            when not may then format('grant %%s on table %%s to %%s;', verb, relation, role)
            else format('-- Or: create policy auth_server on %%s for %%s to %%s …', relation, verb, role) end
        ) as fix
    from lacking
    where not reaches or not may or hidden
    order by 1
"""


def lacking_rights(settings: Settings) -> Plan[tuple[Finding, ...]]:
    """What the auth server's role may not do, as far as the catalog and the triggers' texts show."""
    missing = yield from missing_privileges(settings)
    of_triggers = yield from query(_LACKING, source_table=settings.source_table.quoted)
    return (
        *(
            Finding("D033", each.subject, str(each), each.fix)
            for each in missing
            if each.part == "auth server"
        ),
        *(Finding("D033", row["subject"], row["detail"], row["fix"]) for row in of_triggers),
    )
