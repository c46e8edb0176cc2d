"""A database shaped like Supabase's, the statements GoTrue sends to it, and a pytest plugin.

For tests of applications that use usersync, and for usersync's own tests. Importing this package imports no
driver, because pytest loads the plugin in every run if usersync is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usersync.gotrue import AuthUser, GoTrue, GoTrueError
    from usersync.testing.breakage import BREAKAGES, broken_users_table
    from usersync.testing.capture import captured_events
    from usersync.testing.release import is_test_database, release_audit_log
    from usersync.testing.shape import (
        Regime,
        SupabaseCluster,
        SupabaseDatabase,
        create_supabase_database,
        create_supabase_roles,
    )

__all__ = [
    "BREAKAGES",
    "AuthUser",
    "GoTrue",
    "GoTrueError",
    "Regime",
    "SupabaseCluster",
    "SupabaseDatabase",
    "broken_users_table",
    "captured_events",
    "create_supabase_database",
    "create_supabase_roles",
    "is_test_database",
    "release_audit_log",
]

_HOMES = {
    "BREAKAGES": "usersync.testing.breakage",
    "AuthUser": "usersync.gotrue",
    "GoTrue": "usersync.gotrue",
    "GoTrueError": "usersync.gotrue",
    "broken_users_table": "usersync.testing.breakage",
    "captured_events": "usersync.testing.capture",
    "is_test_database": "usersync.testing.release",
    "release_audit_log": "usersync.testing.release",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - lazily, so that the plugin costs nothing

    return getattr(import_module(_HOMES.get(name, "usersync.testing.shape")), name)
