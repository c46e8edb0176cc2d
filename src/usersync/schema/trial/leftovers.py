"""Effects that a rollback does not undo: used sequence numbers, and advisory locks of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.schema.trial.observation import MovedSequence
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.transports.steps import Row, Steps

_SEQUENCES = """
    select format('%I.%I', schemaname, sequencename) as name, last_value as value, start_value as start,
        increment_by as step
    from pg_sequences
    where schemaname !~ '^pg_' and schemaname <> 'usersync'
"""


def sequences() -> Steps[Mapping[str, Row]]:
    """The positions of the sequences that this role can read. Those of usersync number only its own rows."""
    return {row["name"]: row for row in (yield from query(_SEQUENCES))}


_TWO_KEYS = "(%(key)s::bigint >> 32)::integer, %(key)s::bigint::bit(32)::integer"
# Locks of the session only: locks of a transaction end with its savepoint.
_ADVISORY_LOCKS = """
    select classid::bigint << 32 | objid::bigint as key, objsubid as parts, mode = 'ShareLock' as shared
    from pg_locks
    where locktype = 'advisory' and granted and pid = pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
"""


def advisory_locks() -> Steps[set[tuple[int, int, bool]]]:
    """The advisory locks of this session, by key, its parts, and whether it is shared."""
    rows = yield from query(_ADVISORY_LOCKS)
    return {(row["key"], row["parts"], row["shared"]) for row in rows}


def release_advisory_locks(kept: set[tuple[int, int, bool]]) -> Steps[None]:
    """Release the advisory locks that triggers have taken for the session. A rollback does not."""
    while left := (yield from advisory_locks()) - kept:
        for key, parts, shared in left:
            function = f"pg_advisory_unlock{'_shared' if shared else ''}"
            places = "%(key)s::bigint" if parts == 1 else _TWO_KEYS
            done = yield from query_row(f"select {function}({places}) as released", key=key)
            if not done["released"]:
                return


def drawn_from(before: Mapping[str, Row], name: str, now: Row) -> Steps[MovedSequence | None]:
    """The numbers that this session has used of a sequence; raises if it has used none."""
    own = (yield from query_row("select currval(%(name)s::regclass) as value", name=name))["value"]
    was = before.get(name, {"value": None})["value"]
    drawn = (own - (now["start"] - now["step"] if was is None else was)) // now["step"]
    # A pooled session may have used the sequence long ago, and other sessions use it at any time.
    return MovedSequence(name, drawn) if drawn > 0 else None
