"""Install, upgrade, check and remove usersync from Python: what the command does, without its questions.

::

    from usersync import manage

    if manage.plan(dsn).changes:
        manage.apply(dsn)

Every function blocks, and opens its own connections: ``apply()`` commits in several steps. To install in the
transaction of a migration tool, run the texts of ``sql()``. ``dsn`` is a connection string as the owner
(``postgres`` on Supabase). Without it, SUPABASE_DB_URL or DATABASE_URL is read from the environment,
``.env.local`` or ``.env``. Without ``settings``, ``usersync.toml`` or ``[tool.usersync]`` in
``pyproject.toml`` of the current directory is read.

Errors are ``UsersyncError``: ``SettingsError`` for invalid settings, ``ConnectionFailedError`` without a
connection, ``PrivilegeMissingError`` if the role lacks a right, ``BusyError`` if another session holds a lock
for too long, ``VersionMismatchError`` if a newer release is installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.manage.operations import Applied, apply, doctor, plan, rollback, sql

__all__ = ["Applied", "apply", "doctor", "plan", "rollback", "sql"]


# Imported when asked for: the command uses other modules of this package, and --help needs no driver.
def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("usersync.manage.operations"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
