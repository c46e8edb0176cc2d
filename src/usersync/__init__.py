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
    from usersync.audit import AuditLog
    from usersync.client import UserSync
    from usersync.config.settings import Settings, load_settings, parse_settings
    from usersync.transports.data_api import DataApi

__all__ = [
    "AsyncUserSync",
    "AuditLog",
    "DataApi",
    "Settings",
    "UserSync",
    "__version__",
    "load_settings",
    "parse_settings",
]


# Imported when asked for: `usersync --version` need not load a database driver.
_MODULES = {
    "AsyncUserSync": "usersync.async_client",
    "AuditLog": "usersync.audit.log",
    "DataApi": "usersync.transports.data_api",
    "Settings": "usersync.config.settings",
    "UserSync": "usersync.client",
    "load_settings": "usersync.config.settings",
    "parse_settings": "usersync.config.settings",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
