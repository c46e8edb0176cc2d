"""The PostgreSQL servers of the suite: every version that is installed, each started when first needed.

All xdist workers of a run share one cluster per version, because they use the same directory. The first
worker starts the server, and the last worker that ends, or is killed, stops it.
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

from hooks_skips import lacks
from usersync.embedded import EmbeddedPostgres, installed_versions, without_libpq_variables
from usersync.testing import SupabaseCluster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SUPPORTED = (15, 16, 17, 18)

#: These variants run with a part of the tests only, for example one in four, always the same ones. A hash of
#: the test's name selects them. With --all-variants, each test runs with each variant.
ONE_TEST_IN = {16: 4, 17: 2, "hostile": 3, "repeatable read": 3, "varchar": 3}

ISOLATION_LEVELS = ("read committed", "repeatable read", "serializable")

# No data has to survive a power failure. Autovacuum is off because new statistics in the middle of a test
# change query plans.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
}

# A clone takes 7 ms in memory, 18 ms on a disk, and 60 ms or more on a busy disk.
_MEMORY, _DISK = Path("/dev/shm"), Path(tempfile.gettempdir())  # noqa: S108 - mkdtemp makes the name
_NEEDED_BYTES = 8 << 30

_PREFIX = "usersync-tests-"
_versions = pytest.StashKey[list[int]]()
_absent = pytest.StashKey[list[int]]()
_root = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        metavar="VERSIONS",
        help="PostgreSQL versions to run on: 15,18 for example, or newest. Default: all that are installed",
    )

    parser.addoption(
        "--all-variants",
        action="store_true",
        help="run each test with all names, key types and isolation levels",
    )
    parser.addoption(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a PostgreSQL setting of each session of the suite, for example lc_messages=de_DE.UTF-8",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "newest_server: run on the newest PostgreSQL only")
    config.addinivalue_line(
        "markers", "key_types: run also with key columns of other types; key_types('uuid'): with uuid only"
    )
    config.addinivalue_line(
        "markers",
        "one_isolation_level: run at READ COMMITTED only; see test_sql_isolation.py for the other levels",
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
        raise pytest.UsageError(
            f"--pg: expected versions (15,18 for example) or newest, not {option!r}"
        ) from None


def _shared_root(config: pytest.Config) -> Path:
    """The directory that the workers of this run share. The process that started the workers removes it."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput["usersync_root"])
    for stale in (*_MEMORY.glob(f"{_PREFIX}*"), *_DISK.glob(f"{_PREFIX}*")):
        _remove_if_abandoned(stale)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY if _has_space(_MEMORY) else _DISK))
    root.chmod(0o711)  # the server may run as another account
    owner = (root / "owner").open("w")
    fcntl.flock(owner, fcntl.LOCK_EX)
    config.add_cleanup(lambda: (shutil.rmtree(root, ignore_errors=True), owner.close()))
    return root


def _has_space(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK) and shutil.disk_usage(path).free > _NEEDED_BYTES


def _remove_if_abandoned(root: Path) -> None:
    """Remove the directory of a killed run. The kernel released its lock when the process was killed."""
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
        # Some tests run again on the newest server with hostile names of schemas, tables and columns.
        usual = ISOLATION_LEVELS[0]
        cases = [(version, "plain", usual) for version in versions]
        if _is_due(metafunc, "hostile"):
            cases.append((versions[-1], "hostile", usual))
        mark = metafunc.definition.get_closest_marker("key_types")
        if mark is not None and mark.args != ("uuid",):
            # The oldest server is the system's own, which has the extensions in PostgreSQL's contrib package.
            kinds = [(versions[-1], "text"), (versions[-1], "varchar"), (versions[0], "citext")]
            cases += [(version, kind, usual) for version, kind in kinds if _is_due(metafunc, kind)]
        one_level = metafunc.definition.get_closest_marker("one_isolation_level")
        if "every_isolation_level" in metafunc.fixturenames and not one_level:
            levels = [level for level in ISOLATION_LEVELS[1:] if _is_due(metafunc, level)]
            cases += [(versions[-1], "plain", level) for level in levels]
        # A test may use ``names`` without ``isolation``.
        asked = [each for each in ("server", "names", "isolation") if each in metafunc.fixturenames]
        values = [case[: len(asked)] for case in cases]
        metafunc.parametrize(asked, values, ids=map(_case_id, cases), indirect=True)
        return
    metafunc.parametrize("server", versions or [none], ids=lambda version: f"pg{version}", indirect=True)


def _is_due(metafunc: pytest.Metafunc, kind: int | str) -> bool:
    if metafunc.config.getoption("--all-variants"):
        return True
    if metafunc.config.getoption("--quick"):
        return False
    return zlib.crc32(metafunc.definition.nodeid.encode()) % ONE_TEST_IN.get(kind, 1) == 0


def _case_id(case: tuple[int, str, str]) -> str:
    version, *others = case
    return "-".join(
        [f"pg{version}", *(each for each in others if each not in {"plain", ISOLATION_LEVELS[0]})]
    )


class Servers:
    """The servers and clusters that this process uses."""

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
    """A running PostgreSQL. The test runs once for each version."""
    return servers.server(request.param)


@pytest.fixture
def cluster(servers: Servers, server: EmbeddedPostgres) -> SupabaseCluster:
    """The running server, with the roles of a Supabase project."""
    return servers.cluster(server.version)
