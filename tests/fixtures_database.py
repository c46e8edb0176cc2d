"""A database as Supabase creates it for each test, without usersync, and connections of three roles."""

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
    """The default privileges of the database. A test that needs both kinds parametrizes ``regime``."""
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
    """An autocommit connection as ``postgres``, which is not a superuser at Supabase."""
    with database.connect("postgres") as connection:
        yield connection


@pytest.fixture
def superuser(database: SupabaseDatabase) -> Iterator[psycopg.Connection]:
    """An autocommit connection as ``supabase_admin``, a superuser."""
    with database.connect("supabase_admin") as connection:
        yield connection
