"""The environment of a trial: its role, the auth server's tables, and obstacles. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.schema.network_calls import network_calls, sequence_uses
from usersync.schema.trial.role_settings import settings_in_force
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.settings import Settings
    from usersync.schema.network_calls import NetworkCall, SequenceUse
    from usersync.transports.steps import Row, Steps

#: The table that the auth server's requests require.
AUTH_SERVERS_TABLE = '"auth"."users"'

_ENVIRONMENT = """
    select
        current_user as role,
        current_setting('transaction_read_only')::boolean as read_only,
        pg_is_in_recovery() as standby,
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
#: The auth server's tables whose triggers run in a flow.
TRIED_TABLES = (*_NEEDED, "one_time_tokens", "mfa_factors")


@dataclass(frozen=True)
class TrialEnvironment:
    """The roles, tables and constraints that a trial depends on."""

    role: str = ""
    auth_role: str = ""
    may_assume: bool = False
    search_path: str = ""
    #: The columns of each of the auth server's tables.
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The deferred constraints, quoted.
    deferred: tuple[str, ...] = ()
    #: Effects that a rollback does not undo: calls to another server, and used sequence numbers.
    lasting: tuple[NetworkCall | SequenceUse, ...] = ()
    obstacle: Finding | None = None

    @property
    def tried_as(self) -> str:
        return self.auth_role if self.may_assume else self.role


def prepare(settings: Settings) -> Steps[TrialEnvironment]:
    """Inspect whether the requests can be made, and by which role."""
    if settings.source_table.quoted != AUTH_SERVERS_TABLE:
        there = f"the auth server uses another database, and users are copied from {settings.source_table}"
        return TrialEnvironment(
            obstacle=_cannot(there, "-- Check the copied users: usersync doctor --only D017")
        )
    rows = yield from query(_ENVIRONMENT, source_table=settings.source_table.quoted)
    if not rows:
        there = f"there is no table {settings.source_table} in this database"
        return TrialEnvironment(obstacle=_cannot(there, "usersync doctor --only D001"))
    row = rows[0]
    if (obstacle := _obstacle(row)) is not None:
        return TrialEnvironment(row["role"], row["auth_role"], row["may_assume"], obstacle=obstacle)
    path = yield from settings_in_force(settings, "search_path")
    tables = [f'"auth"."{name}"' for name in TRIED_TABLES]
    tables.append(settings.users_table.quoted)
    calls = yield from network_calls(tables)
    numbers = yield from sequence_uses(tables, settings.users_table.quoted)
    return TrialEnvironment(
        row["role"],
        row["auth_role"],
        row["may_assume"],
        next((each["value"] for each in path if each["is_auth_server"]), '"$user", public'),
        {name: tuple(columns) for name, columns in row["tables"].items()},
        tuple(row["deferred"]),
        (*(each for each in calls if each.is_immediate), *numbers),
    )


def _cannot(why: str, fix: str) -> Finding:
    return Finding("D033", "trial", why, fix)


def _obstacle(row: Row) -> Finding | None:
    if row["standby"] or row["read_only"]:
        what = "this server is a standby" if row["standby"] else "this database does not accept writes"
        return _cannot(
            f"{what}, so no user can sign up", "-- Connect to the primary, or wait until writes are accepted."
        )
    if missing := [name for name in _NEEDED if name not in row["tables"]]:
        return _cannot(
            f"the auth server's schema has no table {', '.join(missing)}",
            "-- Start the auth server, which creates its tables.",
        )
    if row["own_lacks"] and not row["may_assume"]:
        return _cannot(
            f"{row['role']} may not {', '.join(row['own_lacks'])} in {AUTH_SERVERS_TABLE}, nor take the role "
            f"{row['auth_role']}",
            f"-- On a server of your own, as a superuser: grant {row['auth_role']} to {row['role']};",
        )
    return None


_TEXTS = r"""
    select distinct match[2] as column, match[3] as key
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    cross join regexp_matches(
        coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc),
        '(\m|")(raw_user_meta_data|raw_app_meta_data)"?\s*->>?\s*''([^'']+)''', 'g'
    ) as match
    where tgrelid = to_regclass(%(source_table)s) and not tgisinternal
"""


def keys_in_triggers(settings: Settings) -> Steps[Mapping[str, tuple[str, ...]]]:
    """The metadata keys in the texts of triggers on the auth server's table, by column."""
    rows = yield from query(_TEXTS, source_table=settings.source_table.quoted)
    found: dict[str, list[str]] = {"raw_user_meta_data": [], "raw_app_meta_data": []}
    for row in sorted(rows, key=lambda row: row["key"]):
        found[row["column"]].append(row["key"])
    return {column: tuple(keys) for column, keys in found.items()}
