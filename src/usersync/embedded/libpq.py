"""Connections to a server of our own take nothing from the environment.

libpq reads a variable for every parameter that a connection string leaves out. A developer's
``PGSSLMODE=require`` or ``PGSERVICE`` is meant for another server, and makes connections to this one fail.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What libpq 18 reads (https://www.postgresql.org/docs/18/libpq-envars.html), without what our connection
#: strings always name: host, port, user, password and database.
LIBPQ_VARIABLES = frozenset(
    f"PG{name}"
    for name in (
        "CHANNELBINDING", "CLIENTENCODING", "CONNECT_TIMEOUT", "DATESTYLE", "GEQO", "GSSDELEGATION",
        "GSSENCMODE", "GSSLIB", "HOSTADDR", "KRBSRVNAME", "LOADBALANCEHOSTS", "MAXPROTOCOLVERSION",
        "MINPROTOCOLVERSION", "OPTIONS", "REQUIREAUTH", "REQUIREPEER", "REQUIRESSL", "SERVICE", "SERVICEFILE",
        "SSLCERT", "SSLCERTMODE", "SSLCOMPRESSION", "SSLCRL", "SSLCRLDIR", "SSLKEY", "SSLMAXPROTOCOLVERSION",
        "SSLMINPROTOCOLVERSION", "SSLMODE", "SSLNEGOTIATION", "SSLROOTCERT", "SSLSNI", "TARGETSESSIONATTRS",
        "TZ",
    )
)  # fmt: skip


@contextmanager
def without_libpq_variables() -> Iterator[None]:
    """Remove the variables from this process's environment, and put them back at the end."""
    removed = {name: os.environ.pop(name) for name in LIBPQ_VARIABLES & os.environ.keys()}
    try:
        yield
    finally:
        os.environ.update(removed)
