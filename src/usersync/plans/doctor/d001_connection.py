"""Who we are here, on which server, and whether this library fits what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import VersionMismatchError
from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict, settled
from usersync.plans.inspection import OLDEST_SERVER, find
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan


def look(patient: Patient) -> Plan[Verdict]:
    catalog = patient.inspection.catalog
    server = f"PostgreSQL {catalog['server_version'] // 10000}.{catalog['server_version'] % 10000}"
    return settled(
        Verdict(
            f"role {catalog['role']}, {server}, usersync {__version__}",
            (*_server(patient), *_rights(patient), *_library(patient)),
        )
    )


def _server(patient: Patient) -> Iterator[Trouble]:
    catalog = patient.inspection.catalog
    if catalog["server_version"] < OLDEST_SERVER:
        yield Trouble(
            f"PostgreSQL {catalog['server_version'] // 10000} is too old, usersync needs 15 or newer",
            "-- On Supabase: Project settings, Infrastructure, Upgrade project.",
        )
    if catalog["source_columns"] is None:
        finding = find(patient.settings, patient.inspection)[0]
        yield Trouble(finding.message, f"-- {finding.hint}")


def _rights(patient: Patient) -> Iterator[Trouble]:
    catalog = patient.inspection.catalog
    if missing := catalog["missing_privileges"]:
        yield Trouble(
            f"role {catalog['role']} lacks {', '.join(missing)}: usersync apply and sync will be refused",
            "-- Connect as the owner of usersync's objects, on Supabase the role postgres:\n"
            'usersync doctor --dsn "postgresql://postgres:PASSWORD@HOST:5432/postgres"',
            "warning",
        )


def _library(patient: Patient) -> Iterator[Trouble]:
    noted = (patient.inspection.noted or {}).get("settings") or {}
    installed = noted.get("library_version", __version__)
    if isinstance(patient.planned, VersionMismatchError):
        yield Trouble(str(patient.planned), "pip install --upgrade usersync")
    elif installed != __version__:
        yield Trouble(
            f"this database was set up by usersync {installed}, and this is {__version__}",
            "usersync apply",
            "warning",
            safe=True,
        )


CHECK = Definition("D001", "Connection and versions", look, "nothing")
