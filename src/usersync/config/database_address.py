"""The address of a database: which database a connection string means, without user, password and options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from usersync.config.plain_http import is_public

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The beginning of the address of a Supabase project. Its reference follows.
PROJECT = "project "

_DIRECT = re.compile(r"db\.([a-z0-9]+)\.supabase\.co")
_POOLER = re.compile(r"[a-z0-9-]+\.pooler\.supabase\.com")

#: "postgres.production" may be a service and a namespace of Kubernetes, so two labels are not enough.
_LEAST_DOTS = 2

_HOST, _PORT = "localhost", "5432"


def address_of(parts: Mapping[str, Any]) -> str:
    """The address of a database, from the parts of a connection string.

    On Supabase, it is the project's reference, because the pooler and the direct connection reach the same
    database; and the name of another database than "postgres", which each project has. Otherwise it is the
    host, the port and the name of the database.
    """
    hosts = _values(parts, "host", _HOST) or _values(parts, "hostaddr", _HOST) or [_HOST]
    tenant = tenant_of(parts)
    if len(hosts) == 1:
        database = str(parts.get("dbname") or "postgres")
        other = "" if database == "postgres" else f"/{database}"
        if direct := _DIRECT.fullmatch(hosts[0]):
            return f"{PROJECT}{direct[1]}{other}"
        if tenant and _POOLER.fullmatch(hosts[0]):
            return f"{PROJECT}{tenant}{other}"
    ports = _values(parts, "port", _PORT) or [_PORT]
    ports = ports * len(hosts) if len(ports) == 1 else ports
    servers = sorted(
        f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in zip(hosts, ports, strict=False)
    )
    database = parts.get("dbname") or parts.get("user") or ""
    return f"{tenant}{'@' if tenant else ''}{','.join(servers)}/{database}"


def tenant_of(parts: Mapping[str, Any]) -> str:
    """The tenant that a connection string names to a pooler, such as the project at Supabase's; or empty."""
    user, options = str(parts.get("user") or ""), str(parts.get("options") or "")
    named = re.search(r"(?:reference|project)=([\w-]+)", options)
    return user.rpartition(".")[2] if "." in user else named[1] if named else ""


def is_project(address: str | None) -> bool:
    """Whether it is the address of a Supabase project."""
    return address is not None and address.startswith(PROJECT)


def certainty(address: str | None) -> int:
    """How certainly an address names one database.

    2: a project of Supabase. 1: a public host. 0: a name that may mean another database elsewhere, such as
    "localhost", "db" or a private IP address, or no address.
    """
    if is_project(address):
        return 2
    if not address or address.startswith("/"):
        return 0
    servers = address.rpartition("@")[2].partition("/")[0].split(",")
    return int(all(_names_one_server(each.rpartition(":")[0]) for each in servers))


def _names_one_server(host: str) -> bool:
    return is_public(host) and (host.count(".") >= _LEAST_DOTS or ":" in host)


def _values(parts: Mapping[str, Any], name: str, default: str) -> list[str]:
    """The value of each host, in lower case: libpq takes several, separated by commas."""
    text = str(parts.get(name) or "").lower()
    return [each.strip().rstrip(".") or default for each in text.split(",")] if text else []
