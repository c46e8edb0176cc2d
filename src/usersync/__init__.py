"""Keeps ``public.users`` in sync with Supabase's ``auth.users``.

::

    from usersync import UserSync

    with UserSync.from_env() as sync:
        sync.ensure_user_exists(user_id)
"""

from __future__ import annotations

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


def __getattr__(name: str) -> object:
    # Imported when asked for: `usersync --version` need not load a database driver.
    if name == "UserSync":
        from usersync.client import UserSync  # noqa: PLC0415

        return UserSync
    if name == "AsyncUserSync":
        from usersync.async_client import AsyncUserSync  # noqa: PLC0415

        return AsyncUserSync
    if name == "AuditLog":
        from usersync.audit import AuditLog  # noqa: PLC0415

        return AuditLog
    if name == "DataApi":
        from usersync.transports.data_api import DataApi  # noqa: PLC0415

        return DataApi
    if name in {"Settings", "load_settings", "parse_settings"}:
        from usersync.config import settings  # noqa: PLC0415

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
