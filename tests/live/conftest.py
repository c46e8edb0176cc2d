"""Tests on a real Supabase project. They run only with ``make live``.

If usersync is not installed, the tests install it and remove it at the end. They delete the users that they
created.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from auth_api import AuthApi, NotOfferedError
from psycopg.rows import dict_row

from audit_settings import with_audit_log
from hooks_skips import lacks
from usersync import DataApi, UserSync
from usersync.core.audit_log import has_log
from usersync.core.installed import settings_in_database
from usersync.schema import installation
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.config.settings import Settings

_NEEDED = {
    "SUPABASE_URL": "the project's URL; or GOTRUE_URL, of an auth server with no gateway before it",
    "SUPABASE_SECRET_KEY": "or SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_DB_URL": "the database, as postgres",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _why_not()
    for item in items:
        if item.path.parent.name == "live":
            item.add_marker(pytest.mark.xdist_group("live"))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_not() -> str | None:
    if os.environ.get("USERSYNC_LIVE") != "1":
        return lacks("a project in the environment")
    found = {
        "SUPABASE_URL": _auth_url(),
        "SUPABASE_SECRET_KEY": _key(),
        "SUPABASE_DB_URL": os.environ.get("SUPABASE_DB_URL"),
    }
    lacking = [f"{name} ({_NEEDED[name]})" for name, value in found.items() if not value]
    return f"{lacks('a project in the environment')}: not set: {'; '.join(lacking)}" if lacking else None


def _auth_url() -> str | None:
    gateway = os.environ.get("SUPABASE_URL")
    return os.environ.get("GOTRUE_URL") or (f"{gateway.rstrip('/')}/auth/v1" if gateway else None)


def _key() -> str | None:
    return os.environ.get("SUPABASE_SECRET_KEY") or os.environ.get("SUPABASE_SERVICE_ROLE_KEY")


@dataclass
class Live:
    """The project: its auth server, its database, and usersync."""

    auth: AuthApi
    postgres: psycopg.Connection[Any]
    sync: UserSync
    settings: Settings

    def row(self, user_id: UUID) -> dict[str, Any] | None:
        """The user's row, with ``written_by``: the transaction that wrote it."""
        statement = (
            f"select *, xmin::text as written_by from {self.settings.users_table.quoted} "
            f'where "{self.settings.key}" = %s'
        )
        with self.postgres.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement, [user_id]).fetchone()

    def mirrored(self, user_id: UUID, source: str) -> Any:
        """The row's value for a field of ``auth.users``; None if no column is mapped to it."""
        row = self.row(user_id)
        assert row is not None, f"{user_id} has no row"
        column = next((each.name for each in self.settings.columns if str(each.sources[0]) == source), None)
        return row[column] if column else None

    def maps(self, source: str) -> bool:
        """Whether a column mirrors that field."""
        return any(str(each.sources[0]) == source for each in self.settings.columns)


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    auth = AuthApi(
        _auth_url() or "",
        _key() or "",
        os.environ.get("SUPABASE_PUBLISHABLE_KEY") or os.environ.get("SUPABASE_ANON_KEY") or _key() or "",
        os.environ.get("USERSYNC_LIVE_DOMAIN", "example.com"),
    )
    dsn = os.environ["SUPABASE_DB_URL"]
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as postgres, UserSync(dsn) as sync:
        stored = run(settings_in_database(), postgres)
        ours = stored is None
        settings = stored or with_audit_log()
        had_table = postgres.execute("select to_regclass(%s)", [settings.users_table.quoted]).fetchone()[0]
        if ours:
            run(installation.apply(settings), postgres)
        try:
            yield Live(auth, postgres, sync, settings)
        finally:
            _clean_up(auth, postgres, settings)
            if ours:
                run(
                    installation.rollback(settings, drop_users_table=not had_table, drop_audit_log=True),
                    postgres,
                )
            auth.close()


def _clean_up(auth: AuthApi, postgres: psycopg.Connection[Any], settings: Settings) -> None:
    for user_id in auth.made:
        # Some tests have already deleted their user.
        if postgres.execute("select true from auth.users where id = %s", [user_id]).fetchone():
            auth.delete(user_id)
    with postgres.transaction():
        postgres.execute("set local usersync.maintaining = 'audit'")
        log, users = settings.audit_table.quoted, settings.users_table.quoted
        if run(has_log(settings), postgres):
            postgres.execute(f"delete from {log} where action like 'usersync_live.%%'")
        postgres.execute(f'delete from {users} where "{settings.key}" = any(%s)', [auth.made])
        postgres.execute("delete from usersync.sync_failures where user_id = any(%s)", [auth.made])


@pytest.fixture
def data_api() -> DataApi:
    """The Data API, if the project has one."""
    if not os.environ.get("SUPABASE_URL"):
        pytest.skip("SUPABASE_URL is not set: there is no Data API")
    return DataApi(os.environ["SUPABASE_URL"], _key() or "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test whose feature the server does not offer, with the server's message."""
    try:
        return (yield)
    except NotOfferedError as error:
        pytest.skip(f"not offered here: {error}")
