"""The databases that Django's test runners create, ``manage.py test`` and pytest-django.

They are empty, without Supabase's schema ``auth``. A migration with ``ApplyUsersync`` creates a stand-in for
it, and removes what makes ``flush`` fail.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.signals import post_migrate

from usersync.contrib.django.config import config
from usersync.testing.release import create_auth_schema, is_test_database, release_audit_log

if TYPE_CHECKING:
    import psycopg


def is_running() -> bool:
    """Whether a test runner of Django has set up its environment in this process."""
    utils = sys.modules.get("django.test.utils")
    # There is no public way to ask.
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Create the schema ``auth``, if a test runner created the database."""
    if is_running():
        create_auth_schema(connection)


def release(connection: psycopg.Connection[Any]) -> None:
    """Let ``flush`` truncate the users table, in a database of tests only."""
    if is_running() and is_test_database(connection):
        release_audit_log(connection)


def install() -> None:
    """Empty the stand-in with the other tables: ``flush`` ends with this signal."""
    post_migrate.connect(_forget_users, dispatch_uid="usersync")


def _forget_users(using: str, **_: object) -> None:
    if not is_running() or using != config().database:
        return
    with connections[using].cursor() as cursor:
        cursor.execute(
            "select obj_description(to_regnamespace('auth'), 'pg_namespace') like 'usersync: for tests. %%'"
            " and to_regclass('auth.users') is not null",
            [],
        )
        if cursor.fetchone()[0]:
            cursor.execute("delete from auth.users")
