"""What to know of a database before anything is measured in it: what would outlast a rollback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.errors import ConflictError
from usersync.plans.audit import installed_settings
from usersync.plans.init.surroundings import network_use
from usersync.plans.protocol import Plan, query, query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.mapping import TableName
    from usersync.plans.protocol import Row
    from usersync.settings import Settings

# The owner of the auth server's table is the role that the auth server logs in as.
_LOOK = """
    select
        pg_is_in_recovery() as is_standby,
        current_setting('default_transaction_read_only')::boolean as is_read_only,
        (
            select array_agg(attname::text) from pg_attribute
            where attrelid = to_regclass(%(source)s) and attnum > 0 and not attisdropped
        ) as columns,
        (
            select rolname::text from pg_class join pg_roles on pg_roles.oid = relowner
            where pg_class.oid = to_regclass(%(source)s) and rolname <> current_user and pg_has_role(
                relowner,
                case when current_setting('server_version_num')::integer < 160000
                    then 'MEMBER' else 'SET' end)
        ) as auth_role
"""

_TRIGGERS = """
    select
        tgrelid = to_regclass(%(source)s) as on_source, tgrelid::regclass::text as relation, tgname as name,
        nspname || '.' || proname as function, prosrc as body,
        coalesce(obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %%', false) as ours
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    join pg_namespace on pg_namespace.oid = pronamespace
    where not tgisinternal and tgenabled in ('O', 'A')
        and tgrelid in (to_regclass(%(source)s), to_regclass(%(users)s), to_regclass(%(log)s))
    order by on_source desc, relation, name
"""

# Those of identities and serials, and any other that a default names.
_SEQUENCES = """
    select distinct sequence.oid::regclass::text as name
    from pg_depend
    left join pg_attrdef on classid = 'pg_attrdef'::regclass and pg_attrdef.oid = objid
    join pg_class as sequence on relkind = 'S'
        and sequence.oid = case when classid = 'pg_attrdef'::regclass then refobjid else objid end
    where refclassid = 'pg_class'::regclass and classid in ('pg_class'::regclass, 'pg_attrdef'::regclass)
        and case when classid = 'pg_attrdef'::regclass then adrelid else refobjid end
            in (to_regclass(%(source)s), to_regclass(%(users)s), to_regclass(%(log)s))
    order by name
"""


@dataclass(frozen=True)
class Surroundings:
    """A database that can be measured in."""

    settings: Settings
    #: Of the auth server's table.
    columns: frozenset[str]
    #: Whom to be where the auth server's statements are sent; None where the connection's role may not.
    auth_role: str | None
    #: The triggers on the auth server's table that are usersync's, and those that are not.
    ours: frozenset[str]
    others: tuple[str, ...]
    #: What is worth knowing before, and with the figures.
    notes: tuple[str, ...]


def look() -> Plan[Surroundings]:
    """Look at the database; writes nothing.

    Raises :class:`~usersync.errors.NotInstalledError`, and :class:`ConflictError` where the auth server's
    statements cannot be tried without a trace.
    """
    settings = yield from installed_settings()
    if settings.copies_source:
        raise ConflictError(
            f"{settings.source_table} is a copy: the auth server has a database of its own",
            hint="Nobody signs up here, so there is nothing to measure.",
        )
    return (yield from read_only(_look(settings)))


def _look(settings: Settings) -> Plan[Surroundings]:
    tables = {
        "source": settings.source_table.quoted,
        "users": settings.users_table.quoted,
        "log": settings.audit_table.quoted,
    }
    found = yield from query_row(_LOOK, source=tables["source"])
    _refuse(settings.source_table, found)
    triggers = yield from query(_TRIGGERS, **tables)
    _refuse_network(triggers)
    sequences = yield from query(_SEQUENCES, **tables)
    on_source = [each for each in triggers if each["on_source"]]
    return Surroundings(
        settings,
        frozenset(found["columns"]),
        found["auth_role"],
        frozenset(each["name"] for each in on_source if each["ours"]),
        tuple(each["name"] for each in on_source if not each["ours"]),
        tuple(_notes(triggers, [each["name"] for each in sequences])),
    )


def _refuse(source: TableName, found: Row) -> None:
    if found["is_standby"] or found["is_read_only"]:
        what = "a standby" if found["is_standby"] else "set to read only"
        raise ConflictError(
            f"this database is {what}, and what is measured are writes",
            hint="Take a staging database that can be written to; everything is rolled back.",
        )
    if found["columns"] is None:
        raise ConflictError(f"there is no table {source}", hint="Run: usersync doctor")


def _refuse_network(triggers: list[Row]) -> None:
    """A rollback takes back what a request through pg_net would have sent, but not what was sent at once."""
    for each in _others(triggers):
        if (used := network_use(each)) and "pg_net" not in used:
            raise ConflictError(
                f"the trigger {each['name']} on {each['relation']} runs {each['function']}, which {used}: "
                "what it sends cannot be rolled back",
                hint="Measure in a database where that trigger is not, or is disabled.",
            )


def _notes(triggers: list[Row], sequences: list[str]) -> Iterator[str]:
    for each in _others(triggers):
        if network_use(each):
            yield (
                f"The trigger {each['name']} on {each['relation']} sends requests through pg_net. They are "
                "rolled back before they are sent, and leave gaps in its numbers."
            )
        elif not each["on_source"]:
            yield (
                f"The trigger {each['name']} on {each['relation']} is the application's, and its time is in "
                "what usersync adds."
            )
    for name in sequences:
        yield f"The sequence {name} goes on by a number for each row tried, and no rollback takes it back."


def _others(triggers: list[Row]) -> Iterator[Row]:
    return (each for each in triggers if not each["ours"])
