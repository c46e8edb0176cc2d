"""The names of SQLSTATEs."""

from __future__ import annotations

import re

#: SQLSTATEs of usersync itself.
_OWN_STATES = {"US001": "changed_on_write"}


def state_name(sqlstate: str) -> str:
    """PostgreSQL's name of a SQLSTATE: ``not_null_violation`` for 23502. Empty for an unknown one."""
    from psycopg import errors  # noqa: PLC0415 - a driver, which --help does not need

    if sqlstate in _OWN_STATES:
        return _OWN_STATES[sqlstate]
    try:
        name = errors.lookup(sqlstate).__name__
    except KeyError:
        return ""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
