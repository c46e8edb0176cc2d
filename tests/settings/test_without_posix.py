"""Windows, simulated: without ``fcntl``, ``pwd`` and the parts of ``os`` that only POSIX systems have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed

pytestmark = pytest.mark.newest_server

SOURCE = Path(__file__).parents[2] / "src"

WITHOUT_POSIX = """
import importlib, logging, os, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, *_):
        if name in {"fcntl", "pwd", "grp", "termios"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "pwd", "grp"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
for name in (
    *("register_at_fork", "fork", "geteuid", "getuid", "getegid", "fchmod", "killpg", "setsid"),
    *("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_TMPFILE"),
):
    delattr(os, name)
"""

IMPORTS = f"""{WITHOUT_POSIX}
from usersync.errors import EmbeddedPostgresError

source, failed = Path(sys.argv[1]), set()
for path in sorted(source.glob("usersync/**/*.py")):
    name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
    if path.stem == "__main__" or {{"migrations", "inventory", "audit_admin"}} & set(path.parts):
        continue
    try:
        importlib.import_module(name)
    except EmbeddedPostgresError as error:
        assert "Linux or macOS" in str(error)
        failed.add(".".join(name.split(".")[:3]))
print(*sorted(each for each in failed if not each.startswith("usersync.embedded")))
"""

RECORDS = f"""{WITHOUT_POSIX}
from usersync import AuditLog, UserSync

dsn, directory = sys.argv[1:]
logging.basicConfig(stream=sys.stdout, format="%(message)s")
with AuditLog(dsn, spool_dir=directory, project="test") as log:
    assert log.record("a.b", entity=("thing", 1))
    assert log.flush(30), log.stats()
    assert log.search().events[0].action == "a.b"
with UserSync(dsn) as client:
    print(client.status().users)
"""


def run_python(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_each_module_except_the_embedded_server_is_imported():
    assert run_python(IMPORTS, SOURCE) == ["usersync.cli.demo"]


@pytest.fixture
def database(cluster):
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


def test_events_are_kept_in_memory_with_a_warning(database, tmp_path):
    *warnings, users = run_python(RECORDS, database.dsn(), tmp_path / "spool")
    assert users == "0"
    (warning,) = warnings
    assert "this system has no fcntl" in warning
    assert "keeping events in memory" in warning
    assert not (tmp_path / "spool").exists()
