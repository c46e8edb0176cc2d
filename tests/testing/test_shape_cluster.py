"""Creating roles and databases: repeatedly, concurrently, and only where the roles behave like Supabase's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from usersync.testing import SupabaseCluster, create_supabase_roles


def test_roles_can_be_created_concurrently_and_repeatedly(cluster, server):
    def create(_: int) -> None:
        with SupabaseCluster.on(server):
            pass

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(create, range(8)))


def test_roles_are_not_created_if_postgres_is_the_superuser():
    class Connection:
        class info:  # noqa: N801 - psycopg's name
            user = "postgres"

    with pytest.raises(ValueError, match="must not be the cluster's superuser"):
        create_supabase_roles(Connection(), {})


def test_a_template_is_built_once_for_all_processes(cluster, server):
    built = []

    def clone(_: int) -> str:
        with SupabaseCluster.on(server) as mine:
            database = mine.clone(mine.template("counted", build=built.append))
            mine.drop(database)
            return database.name

    with ThreadPoolExecutor(4) as workers:
        names = set(workers.map(clone, range(4)))
    cluster.maintenance.execute("alter database counted with is_template false")
    cluster.maintenance.execute("drop database counted")
    assert len(names) == 4
    assert len(built) == 1


def test_a_clone_is_owned_by_postgres_and_has_a_statement_timeout(database):
    with database.connect() as connection:
        row = connection.execute(
            "select datdba::regrole::text from pg_database where datname = %s", [database.name]
        )
        assert row.fetchone() == ("postgres",)
        assert connection.execute("show statement_timeout").fetchone() == ("2min",)
        connection.execute("create table public.mine ()")


def test_dropping_a_database_ends_its_sessions(cluster):
    database = cluster.create()
    with database.connect() as connection:
        cluster.drop(database)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    cluster.drop(database)


def test_the_dsn_of_a_role_without_a_password_raises(database):
    with pytest.raises(KeyError, match="dashboard_user"):
        database.dsn("dashboard_user")


def test_the_repr_of_a_database_contains_no_password(database):
    assert database.passwords["postgres"] not in repr(database)
