"""Every error usersync raises on purpose.

::

    UsersyncError
    ├── SettingsError            US101  usersync.toml or an argument is wrong
    │   ├── ApiKeyError          US102  the key or the URL of the Data API cannot be used
    │   ├── NeedsDatabaseError   US103  the Data API cannot do this, a connection can
    │   └── MissingExtraError    US104  an optional dependency is not installed
    ├── ConnectionFailedError    US201  no connection, or it was lost
    ├── PrivilegeMissingError    US202  the role may not do what was asked
    ├── DatabaseError            US203  the database refused a statement
    ├── BusyError                US204  another session held a lock for too long
    ├── ReadOnlyDatabaseError    US205  the database accepts no writes
    ├── ColumnMissingError       US206  the users table lacks a column that the settings name
    ├── NotInstalledError        US301  the database has no usersync, or no audit log
    ├── VersionMismatchError     US302  the database and this library do not fit
    ├── ConflictError            US303  an object is not what it would have to be
    ├── MigrationChangedError    US304  an applied migration was edited
    ├── PausedError              US305  the triggers are paused, and no run writes users
    ├── UserNotFoundError        US401  there is no such user in the auth server's table
    ├── UserStillExistsError     US402  the user is alive in the auth server's table
    ├── RemovalLimitError        US403  more rows of deleted users than may be removed
    ├── EmbeddedPostgresError    US501  the throw-away PostgreSQL did not start
    ├── InvalidTokenError        US601  an access token is not accepted
    └── KeysUnavailableError     US602  the auth server's keys are not to be had

The codes are stable; ``docs/errors.md`` explains each one, and a test holds the two together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsersyncError(Exception):
    """What failed and why in ``str(error)``, what to do in ``error.hint``."""

    code: ClassVar[str] = "US000"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class SettingsError(UsersyncError):
    """A setting or an argument is unusable; the message names the key."""

    code = "US101"
    exit_code = 2


class ApiKeyError(SettingsError):
    """The key, or the URL, of the project's Data API cannot be used. The key is never repeated."""

    code = "US102"


class NeedsDatabaseError(SettingsError):
    """What was asked for needs a PostgreSQL connection; there is only the Data API."""

    code = "US103"


class MissingExtraError(SettingsError, ImportError):
    """An optional dependency is not installed; the hint installs it."""

    code = "US104"


class ConnectionFailedError(UsersyncError):
    """No connection to the database or its Data API, or it was lost on the way."""

    code = "US201"
    exit_code = 3


class DatabaseError(UsersyncError):
    """The database refused a statement; ``sqlstate`` says which kind of refusal."""

    code = "US203"

    #: How long the statement ran until it failed.
    seconds: float = 0.0

    def __init__(self, message: str, *, hint: str | None = None, sqlstate: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class PrivilegeMissingError(DatabaseError):
    """The role lacks a privilege; the message names it (SQLSTATE 42501)."""

    code = "US202"


class BusyError(DatabaseError):
    """Another session held a lock for longer than the lock time-out (SQLSTATE 55P03)."""

    code = "US204"


class ReadOnlyDatabaseError(DatabaseError):
    """The database, or a standby, accepts no writes (SQLSTATE 25006)."""

    code = "US205"


class ColumnMissingError(DatabaseError):
    """The users table lacks a column that the settings name; the message names it (SQLSTATE 42703)."""

    code = "US206"

    def __init__(self, table: object, columns: Sequence[str]) -> None:
        kind = "columns" if len(columns) > 1 else "column"
        super().__init__(
            f"{table} has no {kind} {', '.join(columns)}, which the settings name",
            hint="If the column was renamed, write its new name into usersync.toml. If it was dropped, "
            "remove it there. Then run: usersync apply. For details: usersync doctor --only D012",
            sqlstate="42703",
        )


class NotInstalledError(UsersyncError):
    """The database has no usersync yet, or no audit log where one is needed."""

    code = "US301"


class VersionMismatchError(UsersyncError):
    """The schema in the database is newer than this library."""

    code = "US302"


class ConflictError(UsersyncError):
    """The database is not fit for what is asked: an object of one of our names is somebody else's, or a
    table or a type is not what the settings say."""

    code = "US303"


class MigrationChangedError(UsersyncError):
    """A migration that was applied differs from the one in this library."""

    code = "US304"


class PausedError(UsersyncError):
    """The triggers are paused, so runs are not allowed to write users."""

    code = "US305"


class UserNotFoundError(UsersyncError):
    """There is no such user in the auth server's table."""

    code = "US401"


class UserStillExistsError(UsersyncError):
    """The user is alive in the auth server's table, so the mirrored row stays."""

    code = "US402"


class RemovalLimitError(UsersyncError):
    """There are more rows of deleted users than may be removed."""

    code = "US403"


class EmbeddedPostgresError(UsersyncError):
    """The throw-away PostgreSQL did not start or could not be shared."""

    code = "US501"


class InvalidTokenError(UsersyncError):
    """An access token is not accepted: who sent it is nobody. Never contains the token."""

    code = "US601"


class KeysUnavailableError(UsersyncError):
    """Whether an access token is good cannot be known: the auth server's keys are not to be had."""

    code = "US602"


def refused(sqlstate: str | None, message: str, hint: str | None = None) -> UsersyncError:
    """Our error for what PostgreSQL says, however it was asked. Its DETAIL is left out: it quotes values."""
    if sqlstate in _MISSING and _OUR_OBJECTS.search(message):
        return NotInstalledError(
            f"usersync is not installed in this database ({message})", hint="Run: usersync apply"
        )
    if sqlstate in _OUR_CODES:
        return _OUR_CODES[sqlstate](message, hint=hint)
    if sqlstate in _KINDS:
        kind, advice = _KINDS[sqlstate]
        return kind(message, hint=advice, sqlstate=sqlstate)
    if sqlstate == "42703" and (column := _USERS_COLUMN.search(message)):
        return ColumnMissingError("the users table", [column["english"] or column["name"]])
    if sqlstate in _GONE:
        hint = hint or (
            "Was a table or column renamed or dropped since usersync was applied? "
            "Run: usersync doctor --only D012"
        )
    return DatabaseError(f"{message} (SQLSTATE {sqlstate})", hint=hint, sqlstate=sqlstate)


def without_quoted(message: str) -> str:
    """A message of PostgreSQL's without the values that it quotes, in any language that PostgreSQL speaks."""
    return _QUOTED.sub('"…"', message)


def redact_message(sqlstate: str, message: str) -> str:
    """A message of the database's without the values of an event that it may quote."""
    if sqlstate.startswith("P0"):
        return f"a function of the application raised SQLSTATE {sqlstate}"
    return without_quoted(message) if sqlstate.startswith("22") else message


_QUOTED = re.compile('["«»„“”‘’‹›「」].*["«»„“”‘’‹›「」]', re.DOTALL)  # noqa: RUF001
_OUR_CODES: dict[str | None, type[UsersyncError]] = {
    each.code: each for each in (SettingsError, NotInstalledError, VersionMismatchError, PausedError)
}
_KINDS: dict[str | None, tuple[type[DatabaseError], str]] = {
    "42501": (
        PrivilegeMissingError,
        "Connect as the role that owns usersync's objects, on Supabase `postgres`.",
    ),
    "55P03": (BusyError, "Another session holds the lock; try again."),
    "25006": (
        ReadOnlyDatabaseError,
        (
            "Supabase makes a database read-only when its disk is full: free some space, or enlarge it. A "
            "standby accepts no writes: connect to the primary. To see the cause: usersync doctor --only D036"
        ),
    ),
}
_OUR_OBJECTS = re.compile(
    r"usersync|ensure_user_exists|user_sync_status|sync_existing_auth_users|record_audit_events"
)
#: No such schema, table or function.
_MISSING = {"3F000", "42P01", "42883"}
#: A column of the users table: each statement of ours calls the table ``target``. In another language than
#: English a name ends at a space.
_USERS_COLUMN = re.compile(r"\btarget\.(?:(?P<english>.+?) does not exist|(?P<name>[^\s\"«»„“”]+))")
#: No such table or column.
_GONE = {"42P01", "42703"}
