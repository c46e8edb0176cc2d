"""What to know of a database before anything is measured in it: what would outlast a rollback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.errors import ConflictError
from usersync.plans.audit import installed_settings
from usersync.plans.network import callers, named_relations
from usersync.transports.steps import Plan, query, query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usersync.mapping import TableName
    from usersync.plans.network import Caller
    from usersync.settings import Settings
    from usersync.transports.steps import Row

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
        tginitdeferred as deferred,
        coalesce(obj_description(pg_proc.oid, 'pg_proc') like 'usersync: %%', false) as ours
    from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where not tgisinternal and tgenabled in ('O', 'A')
        and tgrelid in (to_regclass(%(source)s), to_regclass(%(users)s), to_regclass(%(log)s))
    order by on_source desc, relation, name
"""

# Those of identities and serials, and any other that a default names; and sequences among the relations.
_SEQUENCES = """
    with relations as (
        select pg_class.oid, relkind
        from unnest(%(names)s::text[]) as name
        join pg_class on pg_class.oid = to_regclass(name)
    )
    select sequence.oid::regclass::text as name
    from pg_depend
    left join pg_attrdef on classid = 'pg_attrdef'::regclass and pg_attrdef.oid = objid
    join pg_class as sequence on relkind = 'S'
        and sequence.oid = case when classid = 'pg_attrdef'::regclass then refobjid else objid end
    where refclassid = 'pg_class'::regclass and classid in ('pg_class'::regclass, 'pg_attrdef'::regclass)
        and case when classid = 'pg_attrdef'::regclass then adrelid else refobjid end
            in (select oid from relations)
    union
    select oid::regclass::text from relations where relkind = 'S'
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
    network = yield from callers(list(tables.values()))
    _refuse_network(network)
    sequences = yield from _sequences(tables.values())
    further = yield from _sequences((yield from named_relations(list(tables.values()))))
    on_source = [each for each in triggers if each["on_source"]]
    notes = (
        *_notes_on_network(network),
        *_notes_on_triggers(triggers),
        *_notes_on_sequences(sequences, [each for each in further if each not in sequences]),
    )
    return Surroundings(
        settings,
        frozenset(found["columns"]),
        found["auth_role"],
        frozenset(each["name"] for each in on_source if each["ours"]),
        tuple(each["name"] for each in on_source if not each["ours"]),
        notes,
    )


def _sequences(names: Iterable[str]) -> Plan[list[str]]:
    return [row["name"] for row in (yield from query(_SEQUENCES, names=list(names)))]


def _refuse(source: TableName, found: Row) -> None:
    if found["is_standby"] or found["is_read_only"]:
        what = "a standby" if found["is_standby"] else "set to read only"
        raise ConflictError(
            f"this database is {what}, and what is measured are writes",
            hint="Take a staging database that can be written to; everything is rolled back.",
        )
    if found["columns"] is None:
        raise ConflictError(f"there is no table {source}", hint="Run: usersync doctor")


def _refuse_network(network: Iterable[Caller]) -> None:
    """A rollback takes back what a request through pg_net would have sent, but not what was sent at once."""
    for each in network:
        if each.at_once:
            raise ConflictError(
                f"{each}: what it sends cannot be rolled back",
                hint="Measure in a database where that trigger is not, or is disabled.",
            )


def _notes_on_network(network: Iterable[Caller]) -> Iterator[str]:
    for trigger, table in dict.fromkeys((each.trigger, each.table) for each in network):
        yield (
            f"The trigger {trigger} on {table} sends requests through pg_net. They are rolled back before "
            "they are sent, and leave gaps in its numbers."
        )


def _notes_on_triggers(triggers: Iterable[Row]) -> Iterator[str]:
    for each in triggers:
        if each["ours"]:
            continue
        if not each["on_source"]:
            yield (
                f"The trigger {each['name']} on {each['relation']} is the application's, and its time is in "
                "what usersync adds."
            )
        elif each["deferred"]:
            # What would fail at COMMIT has to fail where usersync's function can still catch it.
            yield (
                f"The trigger {each['name']} on {each['relation']} is the application's and deferred. "
                "usersync makes it run before COMMIT, so its time is in what usersync adds."
            )


def _notes_on_sequences(sequences: Iterable[str], further: Iterable[str]) -> Iterator[str]:
    for name in sequences:
        yield f"The sequence {name} goes on by a number for each row tried, and no rollback takes it back."
    for name in further:
        yield (
            f"A trigger's function names the sequence {name} or its table. If it takes numbers, no rollback "
            "takes them back."
        )
