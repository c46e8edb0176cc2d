"""The PostgreSQL servers that the suite runs on: every version found, each started when first needed.

One cluster a version and run, which all xdist workers share: they name the same directory, the first starts
the server and the last to leave ends it. Killed workers count as having left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import psycopg.sql
import pytest

from fix_lacking import lacks
from usersync.embedded import EmbeddedPostgres, installed_versions, without_libpq_variables
from usersync.testing import SupabaseCluster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SUPPORTED = (15, 16, 17, 18)

#: A variant that differs little from its neighbours, or costs as much again, runs with a part of the tests:
#: one in so many, always the same. With --all-variants each test runs with each.
IN_TURN = {16: 4, 17: 2, "hostile": 3, "repeatable read": 3, "varchar": 3}

ISOLATION_LEVELS = ("read committed", "repeatable read", "serializable")

# Nothing here has to survive a power cut. Autovacuum is off because a statistic that arrives in the middle of
# a test changes a plan.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
}

# A clone takes 7 ms in memory, 18 on a disk, and 60 or more on a disk that others use too.
_MEMORY, _DISK = Path("/dev/shm"), Path(tempfile.gettempdir())  # noqa: S108 - mkdtemp makes the name
_ROOM = 8 << 30

_PREFIX = "usersync-tests-"
_versions = pytest.StashKey[list[int]]()
_absent = pytest.StashKey[list[int]]()
_root = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        metavar="VERSIONS",
        help="PostgreSQL versions to run on, as in 15,18, or newest; default all found",
    )

    parser.addoption(
        "--all-variants",
        action="store_true",
        help="run each test under all names, key types and isolation levels",
    )
    parser.addoption(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting that each session of the suite begins with, as in lc_messages=de_DE.UTF-8",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "newest_server: run on the newest PostgreSQL only, not on each")
    config.addinivalue_line(
        "markers", "key_types: run with keys of other types, too; key_types('uuid'): after all not"
    )
    config.addinivalue_line(
        "markers",
        "one_isolation_level: what is tested differs above READ COMMITTED; see test_sql_isolation.py",
    )
    found = installed_versions()
    wanted = _wanted(config.getoption("--pg"), found)
    config.stash[_versions] = [version for version in wanted or SUPPORTED if version in found]
    config.stash[_absent] = [version for version in wanted or SUPPORTED if version not in found]
    if wanted and config.stash[_absent]:
        raise pytest.UsageError(f"--pg: not found: {config.stash[_absent]}; found: {sorted(found)}")
    config.stash[_root] = _shared_root(config)


def _wanted(option: str | None, found: Collection[int]) -> list[int]:
    if not option:
        return []
    if option == "newest":
        return [max(version for version in SUPPORTED if version in found)]
    try:
        return [int(part) for part in option.split(",")]
    except ValueError:
        raise pytest.UsageError(f"--pg: expected versions as in 15,18, or newest, not {option!r}") from None


def _shared_root(config: pytest.Config) -> Path:
    """The directory that the workers of this run share; the process that started them removes it."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput["usersync_root"])
    for stale in (*_MEMORY.glob(f"{_PREFIX}*"), *_DISK.glob(f"{_PREFIX}*")):
        _remove_if_abandoned(stale)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY if _roomy(_MEMORY) else _DISK))
    root.chmod(0o711)  # the server may run as an account other than ours
    owner = (root / "owner").open("w")
    fcntl.flock(owner, fcntl.LOCK_EX)
    config.add_cleanup(lambda: (shutil.rmtree(root, ignore_errors=True), owner.close()))
    return root


def _roomy(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK) and shutil.disk_usage(path).free > _ROOM


def _remove_if_abandoned(root: Path) -> None:
    """Remove what a killed run left. The lock went with the process that held it."""
    try:
        with (root / "owner").open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)
    except OSError:
        return


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    node.workerinput["usersync_root"] = str(node.config.stash[_root])


def _summary(config: pytest.Config) -> str:
    found = ", ".join(map(str, config.stash[_versions])) or "none"
    absent = config.stash[_absent]
    return f"PostgreSQL {found}" + (f"; not found on this machine, not tested: {absent}" if absent else "")


def pytest_report_header(config: pytest.Config) -> str:
    return _summary(config)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.stash[_absent]:
        terminalreporter.write_line(_summary(config), yellow=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" not in metafunc.fixturenames:
        return
    versions = metafunc.config.stash[_versions]
    if not metafunc.config.getoption("--pg"):
        versions = [each for each in versions if each == versions[-1] or _is_due(metafunc, each)]
    if metafunc.definition.get_closest_marker("newest_server"):
        versions = versions[-1:]
    none = pytest.param(0, marks=pytest.mark.skip(reason=lacks("a PostgreSQL")))
    if "names" in metafunc.fixturenames and versions:
        # Once more, on the newest server, where every name is as bad as a name can be.
        usual = ISOLATION_LEVELS[0]
        cases = [(version, "plain", usual) for version in versions]
        if _is_due(metafunc, "hostile"):
            cases.append((versions[-1], "hostile", usual))
        mark = metafunc.definition.get_closest_marker("key_types")
        if mark is not None and mark.args != ("uuid",):
            # The oldest server is the one of the system, which has the extensions that PostgreSQL comes with.
            kinds = [(versions[-1], "text"), (versions[-1], "varchar"), (versions[0], "citext")]
            cases += [(version, kind, usual) for version, kind in kinds if _is_due(metafunc, kind)]
        one_level = metafunc.definition.get_closest_marker("one_isolation_level")
        if "every_isolation_level" in metafunc.fixturenames and not one_level:
            levels = [level for level in ISOLATION_LEVELS[1:] if _is_due(metafunc, level)]
            cases += [(versions[-1], "plain", level) for level in levels]
        # A test may ask for the names alone.
        asked = [each for each in ("server", "names", "isolation") if each in metafunc.fixturenames]
        values = [case[: len(asked)] for case in cases]
        metafunc.parametrize(asked, values, ids=map(_case_id, cases), indirect=True)
        return
    metafunc.parametrize("server", versions or [none], ids=lambda version: f"pg{version}", indirect=True)


def _is_due(metafunc: pytest.Metafunc, kind: int | str) -> bool:
    if metafunc.config.getoption("--all-variants"):
        return True
    return zlib.crc32(metafunc.definition.nodeid.encode()) % IN_TURN.get(kind, 1) == 0


def _case_id(case: tuple[int, str, str]) -> str:
    version, *others = case
    return "-".join(
        [f"pg{version}", *(each for each in others if each not in {"plain", ISOLATION_LEVELS[0]})]
    )


class Servers:
    """The servers that this process holds."""

    def __init__(self, root: Path, stack: ExitStack, session_settings: list[str]) -> None:
        self._root = root
        self._session_settings = session_settings
        self._stack = stack
        self._servers: dict[int, EmbeddedPostgres] = {}
        self._clusters: dict[int, SupabaseCluster] = {}

    def server(self, version: int) -> EmbeddedPostgres:
        if version not in self._servers:
            server = EmbeddedPostgres(
                data_dir=self._root / f"pg{version}", version=version, settings=SETTINGS
            )
            self._servers[version] = self._stack.enter_context(server)
        return self._servers[version]

    def cluster(self, version: int) -> SupabaseCluster:
        if version not in self._clusters:
            on = SupabaseCluster.on(self.server(version))
            self._clusters[version] = self._stack.enter_context(on)
            for name, _, value in (each.partition("=") for each in self._session_settings):
                statement = psycopg.sql.SQL("alter role all set {} = {}")
                self._clusters[version].maintenance.execute(
                    statement.format(psycopg.sql.Identifier(name), psycopg.sql.Literal(value))
                )
        return self._clusters[version]


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Servers]:
    with without_libpq_variables(), ExitStack() as stack:
        yield Servers(pytestconfig.stash[_root], stack, pytestconfig.getoption("--set"))


@pytest.fixture
def server(servers: Servers, request: pytest.FixtureRequest) -> EmbeddedPostgres:
    """A running PostgreSQL; the test runs once for each version."""
    return servers.server(request.param)


@pytest.fixture
def cluster(servers: Servers, server: EmbeddedPostgres) -> SupabaseCluster:
    """That server, with the roles of a Supabase project."""
    return servers.cluster(server.version)
