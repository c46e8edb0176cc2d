"""The public API: start a server, or join the one that runs on the same directory."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from usersync.embedded import binaries, leftovers
from usersync.embedded.home import Home
from usersync.embedded.session import Session
from usersync.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HOST = "127.0.0.1"

# How root may run a server; see identity.py.
_WAYS = ["namespace", "account"]

# These make the server what it is: reachable on loopback, by password, in its own directory.
_ENFORCED = {
    "listen_addresses", "port", "unix_socket_directories", "data_directory", "hba_file", "lc_messages"
}  # fmt: skip

_log = logging.getLogger("usersync.embedded")


class EmbeddedPostgres:
    """A PostgreSQL server on a loopback port with a random password.

    The server ends when the last process that uses it ends, even by ``kill -9``. Processes with the same
    ``data_dir`` share one server: the first starts it, the others join. Forked children may connect to it,
    and do not keep it running.

    ``data_dir`` is a directory for this server alone, created if missing; ``None`` is a temporary directory,
    which is removed at the end. ``version`` is a major version (default: that of the existing cluster, else
    the newest one found). ``superuser`` and its password are fixed when the cluster is created. ``settings``
    are postgresql.conf values, which override ALTER SYSTEM.

    Every method may raise ``EmbeddedPostgresError``. Use an object from one thread at a time.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        version: int | None = None,
        superuser: str = "supabase_admin",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._version = version
        self._superuser = superuser
        self._settings = None if settings is None else _checked(settings)
        self._session: Session | None = None
        self._state: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The loopback address that it listens on."""
        return _HOST

    @property
    def port(self) -> int:
        """The TCP port. Kept over restarts, unless another process took it meanwhile."""
        return int(self._known("port"))

    @property
    def password(self) -> str:
        """The superuser's password."""
        return str(self._known("password"))

    @property
    def superuser(self) -> str:
        """The superuser's name."""
        return self._superuser

    @property
    def version(self) -> int:
        """The major version."""
        return int(self._known("version"))

    @property
    def bin_dir(self) -> Path:
        """The directory of psql, pg_dump and other programs, if the distribution has them."""
        return Path(self._known("bin_dir"))

    @property
    def log_path(self) -> Path:
        """The server's log, which is removed with a temporary server."""
        if self._session is None:
            raise EmbeddedPostgresError("the server was not started", hint="Call start() first.")
        return self._session.home.log

    def dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A connection string. It contains the superuser's password; for other users, pass a password."""
        name = self.superuser if user is None else user
        if password is None and name == self.superuser:
            password = self.password
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{quote(name, safe='')}{secret}@{_HOST}:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> None:
        """Start the server, or join the one that runs. Blocks until it accepts connections.

        After ``stop`` and after ``kill`` the same cluster is started again, with crash recovery if needed.
        """
        if self._session is not None and self._session.mine:
            self._state = self._command("start")
            return
        with self._explained():
            self._session = self._joined()
        # An object that is deleted without close() must not leave a server running.
        weakref.finalize(self, self._session.abandon).atexit = False

    def stop(self) -> None:
        """Shut the server down cleanly, for all processes that use it. Keeps its data for ``start``.
        Blocks.
        """
        if self._session is not None and self._session.mine:
            self._command("stop")

    def restart(self) -> None:
        """Stop and start the server. Blocks until it accepts connections."""
        self._state = self._command("restart")

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL, like a crash. ``start`` runs crash recovery."""
        self._command("kill")

    def close(self) -> None:
        """Stop using the server. The last process that uses it shuts it down and blocks until that is
        done.
        """
        if self._session is not None:
            with self._explained():
                self._session.close()

    def _known(self, name: str) -> Any:
        if name not in self._state:
            raise EmbeddedPostgresError("the server was not started", hint="Call start() first.")
        return self._state[name]

    def _command(self, verb: str) -> dict[str, Any]:
        if self._session is None or not self._session.mine:
            raise EmbeddedPostgresError("This process has not started the server.", hint="call start() first")
        with self._explained():
            return self._session.command(verb)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an OSError of a directory into EmbeddedPostgresError."""
        try:
            yield
        except OSError as error:
            where = self._data_dir or tempfile.gettempdir()
            raise EmbeddedPostgresError(f"A server cannot be run in {where}: {error}.") from error

    def _joined(self) -> Session:
        session = self._new_session()
        try:
            self._accept(session.join())
        except BaseException:
            session.close()
            raise
        return session

    def _new_session(self) -> Session:
        existing = _major_of(Home(self._data_dir.resolve())) if self._data_dir else None
        if existing:
            self._check_version(existing)
        major, bin_dir = binaries.find(existing or self._version)
        home = Home(self._directory())
        _log.debug("using PostgreSQL %s of %s for %s", major, bin_dir, home.root)
        request = {
            "root": str(home.root),
            "temporary": self._data_dir is None,
            "bin_dir": str(bin_dir),
            "version": major,
            "superuser": self._superuser,
            "settings": self._settings or {},
            "ways": _WAYS,
        }
        return Session(home, request)

    def _directory(self) -> Path:
        if self._data_dir is not None:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._data_dir.resolve()
        if self._session is not None and self._session.home.root.exists():
            return self._session.home.root  # a fork joins the server of its parent
        leftovers.sweep(Path(tempfile.gettempdir()))
        return Path(tempfile.mkdtemp(prefix=leftovers.PREFIX)).resolve()

    def _accept(self, state: dict[str, Any]) -> None:
        """Take a running server for ours only if it is what was asked for."""
        self._check_version(state["version"])
        if state["superuser"] != self._superuser:
            raise EmbeddedPostgresError(
                f"The cluster's superuser is {state['superuser']!r}, not {self._superuser!r}.",
                hint="give that name, or another directory",
            )
        if self._settings is not None and state["settings"] != self._settings:
            raise EmbeddedPostgresError(
                f"The server runs with other settings: {state['settings']}.",
                hint="leave the settings out, or end the other processes that use it",
            )
        self._state = state

    def _check_version(self, found: int) -> None:
        if self._version not in {None, found}:
            raise EmbeddedPostgresError(
                f"{self._data_dir} holds a cluster of PostgreSQL {found}, not {self._version}.",
                hint="leave the version out, or give another directory; pg_upgrade moves a cluster's data",
            )


def _checked(settings: Mapping[str, str]) -> dict[str, str]:
    for name in settings:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", name):
            raise EmbeddedPostgresError(f"{name!r} is no name of a PostgreSQL setting.")
        if name.lower() in _ENFORCED:
            raise EmbeddedPostgresError(
                f"The setting {name!r} is decided by EmbeddedPostgres.", hint="leave it out"
            )
    return {name: str(value) for name, value in settings.items()}


def _major_of(home: Home) -> int | None:
    """The major version of the cluster that a directory holds; None where there is none yet."""
    if not home.root.exists():
        return None
    if not home.pgdata.exists():
        _refuse_foreign(home)
        return None
    if not home.cluster:
        raise EmbeddedPostgresError(
            f"{home.root} has lost its cluster.json, which holds the superuser's password.",
            hint="restore the file, or remove the directory to start afresh",
        )
    try:
        return int((home.pgdata / "PG_VERSION").read_text().split(".")[0])
    except (OSError, ValueError) as error:
        raise EmbeddedPostgresError(
            f"{home.pgdata} is no intact PostgreSQL cluster: its PG_VERSION cannot be read ({error}).",
            hint="restore the directory, or remove it to start afresh",
        ) from error


def _refuse_foreign(home: Home) -> None:
    ours = {"pgdata", "lock", "supervisor.lock", "control", "server.log", "state.json", "cluster.json"}
    ours |= {"pgdata.new", "pwfile", "pgsql", "state.new", "cluster.new"}
    foreign = sorted({entry.name for entry in os.scandir(home.root)} - ours)
    if foreign:
        raise EmbeddedPostgresError(
            f"{home.root} is not empty and holds no server of usersync (it contains {foreign[0]!r}).",
            hint="give a directory that is empty or does not exist yet",
        )
