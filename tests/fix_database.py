"""A database of Supabase's shape for each test, without usersync in it, and who connects to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from usersync.testing import GoTrue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.testing import Regime, SupabaseCluster, SupabaseDatabase


@pytest.fixture
def regime() -> Regime:
    """The default privileges; a test that wants both parametrizes ``regime``."""
    return "old"


@pytest.fixture
def database(cluster: SupabaseCluster, regime: Regime) -> Iterator[SupabaseDatabase]:
    template = cluster.template(f"supabase_{regime}", regime=regime)
    database = cluster.clone(template)
    yield database
    cluster.drop(database)


@pytest.fixture
def auth(database: SupabaseDatabase) -> Iterator[GoTrue]:
    """The auth server, logged in as supabase_auth_admin."""
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        yield auth


@pytest.fixture
def postgres(database: SupabaseDatabase) -> Iterator[psycopg.Connection]:
    """An autocommit connection as ``postgres``, who is no superuser."""
    with database.connect("postgres") as connection:
        yield connection


@pytest.fixture
def superuser(database: SupabaseDatabase) -> Iterator[psycopg.Connection]:
    """An autocommit connection as ``supabase_admin``."""
    with database.connect("supabase_admin") as connection:
        yield connection
