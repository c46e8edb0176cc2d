"""Keeps ``public.users`` in sync with Supabase's ``auth.users``.

::

    from usersync import UserSync

    with UserSync.from_env() as sync:
        sync.ensure_user_exists(user_id)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from usersync.version import __version__

if TYPE_CHECKING:
    from usersync.async_client import AsyncUserSync
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.event.action import Action
    from usersync.audit.event.event import Event
    from usersync.audit.event.fields import ActionFields, ContextFields, EventFields
    from usersync.audit.log import AuditLog
    from usersync.audit.models import EventPage, EventRecord, FeedPage, FieldChange, NumberedEvent
    from usersync.audit.options import AuditOptions
    from usersync.audit.reader import SearchFilters
    from usersync.client import UserSync
    from usersync.config.settings import Settings, load_settings, parse_settings
    from usersync.errors import (
        ApiKeyError,
        ArgumentTypeError,
        ArgumentValueError,
        BusyError,
        ColumnMissingError,
        ConflictError,
        ConnectionFailedError,
        DatabaseError,
        EmbeddedPostgresError,
        InvalidTokenError,
        KeysUnavailableError,
        MigrationChangedError,
        MissingExtraError,
        NeedsDatabaseError,
        NotAcceptedError,
        NotInstalledError,
        PausedError,
        PrivilegeMissingError,
        ReadOnlyDatabaseError,
        RemovalLimitError,
        SettingsError,
        UserNotFoundError,
        UserStillExistsError,
        UsersyncError,
        VersionMismatchError,
    )
    from usersync.events.handlers import Handlers
    from usersync.events.models import SubscriptionStatus
    from usersync.models import (
        Change,
        Check,
        Counts,
        Difference,
        Erasure,
        Failure,
        Finding,
        LastRun,
        Pause,
        Removal,
        Resumption,
        SchemaPlan,
        SyncResult,
        SyncStatus,
    )
    from usersync.transports.data_api import DataApi
    from usersync.transports.drivers import AsyncSqlExecutor, SqlExecutor

__all__ = [
    "Action",
    "ActionFields",
    "ApiKeyError",
    "ArgumentTypeError",
    "ArgumentValueError",
    "AsyncSqlExecutor",
    "AsyncUserSync",
    "AuditLog",
    "AuditOptions",
    "AuditStats",
    "BusyError",
    "Change",
    "Check",
    "ColumnMissingError",
    "ConflictError",
    "ConnectionFailedError",
    "ContextFields",
    "Counts",
    "DataApi",
    "DatabaseError",
    "Difference",
    "EmbeddedPostgresError",
    "Erasure",
    "Event",
    "EventFields",
    "EventPage",
    "EventRecord",
    "Failure",
    "FeedPage",
    "FieldChange",
    "Finding",
    "Handlers",
    "InvalidTokenError",
    "KeysUnavailableError",
    "LastRun",
    "MigrationChangedError",
    "MissingExtraError",
    "NeedsDatabaseError",
    "NotAcceptedError",
    "NotInstalledError",
    "NumberedEvent",
    "Pause",
    "PausedError",
    "PrivilegeMissingError",
    "ReadOnlyDatabaseError",
    "Removal",
    "RemovalLimitError",
    "Resumption",
    "SchemaPlan",
    "SearchFilters",
    "Settings",
    "SettingsError",
    "SqlExecutor",
    "SubscriptionStatus",
    "SyncResult",
    "SyncStatus",
    "UserNotFoundError",
    "UserStillExistsError",
    "UserSync",
    "UsersyncError",
    "VersionMismatchError",
    "__version__",
    "load_settings",
    "parse_settings",
]

# Imported when asked for: `usersync --version` need not load a database driver.
_MODULES = {
    "Action": "usersync.audit.event.action",
    "ActionFields": "usersync.audit.event.fields",
    "AsyncSqlExecutor": "usersync.transports.drivers",
    "AsyncUserSync": "usersync.async_client",
    "AuditLog": "usersync.audit.log",
    "AuditOptions": "usersync.audit.options",
    "AuditStats": "usersync.audit.delivery.stats",
    "ContextFields": "usersync.audit.event.fields",
    "DataApi": "usersync.transports.data_api",
    "Event": "usersync.audit.event.event",
    "EventFields": "usersync.audit.event.fields",
    "EventPage": "usersync.audit.models",
    "EventRecord": "usersync.audit.models",
    "FeedPage": "usersync.audit.models",
    "FieldChange": "usersync.audit.models",
    "Handlers": "usersync.events.handlers",
    "NumberedEvent": "usersync.audit.models",
    "SearchFilters": "usersync.audit.reader",
    "Settings": "usersync.config.settings",
    "SqlExecutor": "usersync.transports.drivers",
    "SubscriptionStatus": "usersync.events.models",
    "UserSync": "usersync.client",
    "load_settings": "usersync.config.settings",
    "parse_settings": "usersync.config.settings",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in __all__:
        home = next(
            each
            for each in map(import_module, ("usersync.errors", "usersync.models"))
            if name in each.__all__
        )
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
