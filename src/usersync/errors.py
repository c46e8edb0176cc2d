"""The errors that usersync raises.

::

    UsersyncError
    ├── SettingsError            US101  usersync.toml or an argument is wrong
    │   ├── ApiKeyError          US102  the key or the URL of the Data API cannot be used
    │   ├── NeedsDatabaseError   US103  this requires a database connection, not the Data API
    │   ├── MissingExtraError    US104  an optional dependency is not installed
    │   ├── ArgumentTypeError    US105  a call has an unknown argument, or one of a wrong type
    │   └── ArgumentValueError   US106  the value of an argument is not allowed
    ├── ConnectionFailedError    US201  no connection, or it was lost
    ├── PrivilegeMissingError    US202  the role lacks a privilege
    ├── DatabaseError            US203  a statement failed
    ├── BusyError                US204  another session held a lock for too long
    ├── ReadOnlyDatabaseError    US205  the database accepts no writes
    ├── ColumnMissingError       US206  the users table lacks a column that the settings name
    ├── NotInstalledError        US301  the database has no usersync, or no audit log
    ├── VersionMismatchError     US302  the schema in the database is newer than this library
    ├── ConflictError            US303  an object of the database is not what usersync expects
    ├── MigrationChangedError    US304  an applied migration was edited
    ├── PausedError              US305  the triggers are paused, and runs write no users
    ├── NotAcceptedError         US306  apply() would change what works today
    ├── UserNotFoundError        US401  the auth server's table has no such user
    ├── UserStillExistsError     US402  the auth server's table still has the user
    ├── RemovalLimitError        US403  more rows of deleted users than the limit
    ├── EmbeddedPostgresError    US501  the temporary PostgreSQL did not start
    ├── InvalidTokenError        US601  an access token is invalid
    └── KeysUnavailableError     US602  the auth server's signing keys are unavailable

The codes are stable. ``docs/errors.md`` explains each of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "ApiKeyError",
    "ArgumentTypeError",
    "ArgumentValueError",
    "BusyError",
    "ColumnMissingError",
    "ConflictError",
    "ConnectionFailedError",
    "DatabaseError",
    "EmbeddedPostgresError",
    "InvalidTokenError",
    "KeysUnavailableError",
    "MigrationChangedError",
    "MissingExtraError",
    "NeedsDatabaseError",
    "NotAcceptedError",
    "NotInstalledError",
    "PausedError",
    "PrivilegeMissingError",
    "ReadOnlyDatabaseError",
    "RemovalLimitError",
    "SettingsError",
    "UserNotFoundError",
    "UserStillExistsError",
    "UsersyncError",
    "VersionMismatchError",
]


class UsersyncError(Exception):
    """Base class. ``str(error)`` says what failed and why, ``hint`` what to do; ``code`` is its code.

    The hint is also a note of the exception, so a traceback shows it.
    """

    code: ClassVar[str] = "US000"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:
            self.add_note(f"Hint: {hint}")


class SettingsError(UsersyncError):
    """A setting or an argument is invalid. The message names it."""

    code = "US101"
    exit_code = 2


class ApiKeyError(SettingsError):
    """The key or the URL of the Data API cannot be used. The message does not contain the key."""

    code = "US102"


class NeedsDatabaseError(SettingsError):
    """The operation requires a PostgreSQL connection, and the client uses the Data API."""

    code = "US103"


class MissingExtraError(SettingsError, ImportError):
    """An optional dependency is not installed. The hint is the command that installs it."""

    code = "US104"


class ArgumentTypeError(SettingsError, TypeError):
    """A call has an unknown argument, or an argument of a wrong type. The message names it."""

    code = "US105"


class ArgumentValueError(SettingsError, ValueError):
    """The value of an argument is not allowed. The message names the argument and the allowed values."""

    code = "US106"


class ConnectionFailedError(UsersyncError):
    """The database or its Data API cannot be reached, or the connection was lost."""

    code = "US201"
    exit_code = 3


class DatabaseError(UsersyncError):
    """A statement failed in the database. ``sqlstate`` is PostgreSQL's code of the error."""

    code = "US203"

    #: How many seconds the statement ran until it failed.
    seconds: float = 0.0

    def __init__(self, message: str, *, hint: str | None = None, sqlstate: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class PrivilegeMissingError(DatabaseError):
    """The role lacks a privilege (SQLSTATE 42501). The message names it."""

    code = "US202"


class BusyError(DatabaseError):
    """Another session held a lock for longer than the lock time-out (SQLSTATE 55P03)."""

    code = "US204"


class ReadOnlyDatabaseError(DatabaseError):
    """The database, or a standby, accepts no writes (SQLSTATE 25006)."""

    code = "US205"


class ColumnMissingError(DatabaseError):
    """The users table lacks a column that the settings name (SQLSTATE 42703). The message names it."""

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
    """usersync is not installed in the database, or the operation requires an audit log and there is none."""

    code = "US301"


class VersionMismatchError(UsersyncError):
    """The schema in the database is newer than this library."""

    code = "US302"


class ConflictError(UsersyncError):
    """An object with a name of usersync was not created by usersync, or a table or a type differs from the
    settings."""

    code = "US303"


class MigrationChangedError(UsersyncError):
    """An applied migration differs from the one in this library."""

    code = "US304"


class PausedError(UsersyncError):
    """The triggers are paused, so runs are not allowed to write users."""

    code = "US305"


class NotAcceptedError(UsersyncError):
    """Nothing was installed: usersync would change what the auth server's flows do today, see
    ``differences``.
    """

    code = "US306"

    def __init__(self, message: str, *, hint: str | None = None, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        #: Each difference in words.
        self.differences = differences


class UserNotFoundError(UsersyncError):
    """The auth server's table has no such user."""

    code = "US401"


class UserStillExistsError(UsersyncError):
    """The auth server's table still has the user, so the row is not removed."""

    code = "US402"


class RemovalLimitError(UsersyncError):
    """There are more rows of deleted users than the limit allows. Nothing was removed."""

    code = "US403"


class EmbeddedPostgresError(UsersyncError):
    """The temporary PostgreSQL did not start, or cannot be shared with another process."""

    code = "US501"


class InvalidTokenError(UsersyncError):
    """An access token is invalid: the request is not authenticated. The message never contains the token."""

    code = "US601"


class KeysUnavailableError(UsersyncError):
    """An access token cannot be verified, because the auth server's signing keys are unavailable."""

    code = "US602"


def error_for_sqlstate(sqlstate: str | None, message: str, hint: str | None = None) -> UsersyncError:
    """The error of usersync for a SQLSTATE. PostgreSQL's DETAIL is left out, because it quotes values."""
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
            "After an upgrade of usersync, run: usersync apply. "
            "If a table or column was renamed or dropped: usersync doctor --only D012"
        )
    return DatabaseError(f"{message} (SQLSTATE {sqlstate})", hint=hint, sqlstate=sqlstate)


def without_quoted(message: str) -> str:
    """A message of PostgreSQL without the values that it quotes, in every language of PostgreSQL."""
    return _QUOTED.sub('"…"', message)


def redact_message(sqlstate: str, message: str) -> str:
    """A message of the database without values of an event that it may quote."""
    if sqlstate.startswith("P0"):
        return f"a function of the application raised SQLSTATE {sqlstate}"
    return without_quoted(message) if sqlstate.startswith("22") else message


def mask_addresses(text: str) -> str:
    """A text without e-mail addresses, as ``usersync.redact_message()`` stores it."""
    # A quoted local part may contain spaces.
    return _ADDRESS.sub("<address>", _LOCAL_PART.sub("@", text))


_LOCAL_PART = re.compile('"[^"]*"@')
_ADDRESS = re.compile(r"[^\s,;<>]*@[^\s,;<>]*")
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
#: The name of a column in an error message about the users table, which usersync's statements call
#: ``target``. In other languages than English the words after the name are unknown, so the name ends at the
#: first space.
_USERS_COLUMN = re.compile(r"\btarget\.(?:(?P<english>.+?) does not exist|(?P<name>[^\s\"«»„“”]+))")
#: No such table or column.
_GONE = {"42P01", "42703"}
