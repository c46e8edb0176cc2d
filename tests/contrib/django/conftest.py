"""A Django project on the test's database."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django_site import PROJECT, Site, described

from audit_settings import with_audit_log
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from usersync.testing import SupabaseCluster, SupabaseDatabase


@pytest.fixture(scope="session")
def django_project() -> None:
    """Set up Django once per process. Another test may have configured it already."""
    if not django_settings.configured:
        django_settings.configure()
    django.setup()
    override_settings(**PROJECT).enable()


@pytest.fixture
def use(django_project: None) -> Iterator[Callable[..., None]]:
    """Point the aliases to these databases until the test ends."""
    before = dict(connections.settings)

    def point(**databases: dict[str, Any]) -> None:
        _close_connections()
        connections.settings.update(databases)

    yield point
    _close_connections()
    connections.settings.clear()
    connections.settings.update(before)


def _close_connections() -> None:
    """Close the connections of this thread and of asgiref's thread for blocking code."""

    def close() -> None:
        for each in connections.all(initialized_only=True):
            each.close()
            del connections[each.alias]

    async def elsewhere() -> None:
        await sync_to_async(close)()

    close()
    asyncio.run(elsewhere())


@pytest.fixture
def database(cluster: SupabaseCluster, use: Callable[..., None]) -> Iterator[SupabaseDatabase]:
    """A database with usersync and the tables of Django's own applications."""

    def build(database: SupabaseDatabase) -> None:
        install(database, with_audit_log())
        use(default=described(database))
        call_command("migrate", verbosity=0, skip_checks=True)
        _close_connections()

    database = cluster.clone(cluster.template("django", build=build))
    yield database
    _close_connections()
    cluster.drop(database)


@pytest.fixture
def configure(tmp_path: Path, django_project: None) -> Iterator[Callable[..., None]]:
    """Set ``USERSYNC`` and other settings, until the test ends."""
    overrides: list[override_settings] = []

    def set_to(*, django: dict[str, Any] | None = None, **usersync: Any) -> None:
        usersync = {"AUDIT": {"spool_dir": tmp_path / "spool", "exit_timeout": 0}, **usersync}
        overrides.append(override_settings(**{"USERSYNC": usersync, **(django or {})}))
        overrides[-1].enable()

    set_to()
    yield set_to
    while overrides:
        overrides.pop().disable()
    deadline = time.monotonic() + 90
    while any(each.name == "usersync-audit" for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def site(
    database: SupabaseDatabase, use: Callable[..., None], configure: Callable[..., None]
) -> Iterator[Site]:
    use(default=described(database))
    with database.connect() as owner:
        yield Site(database, owner)
