"""Small disks of some megabytes that a test can fill. Each is mounted for one process only."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Its own mount namespace, so that the mount is private and always removed. Accounts other than root need a
# system that allows user namespaces.
_APART = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
_MOUNT = 'mount -t tmpfs -o "size=$2" tmpfs "$1" && shift 2 && exec "$@"'

# In a user namespace, root's directories belong to nobody: a spool does not trust a temporary directory that
# root has created beside those of others.
_CHECK = """
    import sys
    from pathlib import Path
    from usersync.audit.spool.private import check_directory

    check_directory(Path(sys.argv[1]))
"""


@cache
def why_not() -> str | None:
    """Why no disk can be mounted on this machine, or hold a spool; None if it can."""
    with TemporaryDirectory() as place:
        try:
            done = run_python(_CHECK, Path(place), "1m")
        except OSError as error:
            return str(error)
        return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def on_disk(place: Path, size: str, command: list[str]) -> list[str]:
    """The command that runs ``command`` with an empty disk of this size, such as ``4m``, mounted."""
    return [*_APART, "sh", "-c", _MOUNT, "sh", str(place), size, *command]


def run_python(code: str, place: Path, size: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script with such a disk. ``sys.argv`` is its mount point, and the arguments."""
    script = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(place), *map(str, arguments)]
    command = on_disk(place, size, script)
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def held_disk(place: Path, size: str) -> Iterator[tuple[list[str], Path]]:
    """Such a disk for the block: the beginning of a command that uses it, and its path for this process."""
    held = on_disk(place, size, ["sh", "-c", "echo mounted; exec sleep infinity"])
    with subprocess.Popen(held, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"mounted\n"
            namespaces = f"/proc/{holder.pid}/ns"
            user = [] if os.geteuid() == 0 else [f"--user={namespaces}/user", "--preserve-credentials"]
            yield ["nsenter", f"--mount={namespaces}/mnt", *user], Path(f"/proc/{holder.pid}/root{place}")
        finally:
            holder.kill()
