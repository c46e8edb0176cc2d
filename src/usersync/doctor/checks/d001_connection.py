"""The role, the server, and whether this release of usersync matches the installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.errors import VersionMismatchError
from usersync.models import Finding
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    catalog = context.inspection.catalog
    server = f"PostgreSQL {catalog['server_version'] // 10000}.{catalog['server_version'] % 10000}"
    return without_query(
        Verdict(
            f"role {catalog['role']}, {server}, usersync {__version__}",
            (*context.found("D001"), *_rights(context), *_library(context)),
        )
    )


def _rights(context: Context) -> Iterator[Finding]:
    catalog = context.inspection.catalog
    if missing := [each.what for each in context.inspection.missing if each.part == "this role"]:
        yield Finding(
            "D001",
            f"role {catalog['role']}",
            f"role {catalog['role']} lacks {', '.join(missing)}: usersync apply and sync will fail",
            "-- Connect as the owner of usersync's objects, on Supabase the role postgres:\n"
            'usersync doctor --dsn "postgresql://postgres:PASSWORD@HOST:5432/postgres"',
            "warning",
        )


def _library(context: Context) -> Iterator[Finding]:
    noted = (context.inspection.noted or {}).get("settings") or {}
    installed = noted.get("library_version", __version__)
    if isinstance(context.planned, VersionMismatchError):
        yield Finding("D001", "library", str(context.planned), context.planned.hint or "")
    elif installed != __version__:
        yield Finding(
            "D001",
            "library",
            f"this database was set up by usersync {installed}, and this is {__version__}",
            "usersync apply",
            "warning",
            safe=True,
        )


CHECK = Definition("D001", "Connection and versions", look, "nothing")
