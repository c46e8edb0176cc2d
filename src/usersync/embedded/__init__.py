"""A PostgreSQL server that lives as long as the processes that use it.

::

    with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        psycopg.connect(server.dsn())

The application (``server.py``) makes a directory and starts a supervisor (``supervisor.py``): a separate
process, the parent of ``postgres``. Both use the directory (``home.py``). The application holds a named
pipe in it open for writing. When the last process that holds the pipe open ends, for whatever reason, the
supervisor reads end-of-file and shuts the server down. ``cluster.py`` makes, starts and stops the server,
``identity.py`` decides which account it runs as, ``binaries.py`` finds PostgreSQL's programs.

The modules that the supervisor imports use nothing but the standard library.
"""

from importlib import import_module

from usersync.errors import EmbeddedPostgresError

try:
    for _name in ("fcntl", "pwd"):
        import_module(_name)
except ModuleNotFoundError:
    raise EmbeddedPostgresError(
        "the embedded PostgreSQL requires Linux or macOS",
        hint="Use a PostgreSQL of your own, for example in Docker.",
    ) from None

from usersync.embedded.binaries import installed_versions
from usersync.embedded.libpq import without_libpq_variables
from usersync.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "installed_versions", "without_libpq_variables"]
