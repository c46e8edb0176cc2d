"""PgBouncer in transaction mode, like Supavisor on port 6543: each transaction may use another session."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from audit_settings import with_audit_log
from fixtures_pooler import SERVERS
from usersync import AsyncUserSync, UserSync
from usersync.config.dsn import connection_options
from usersync.models import Counts
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


@pytest.fixture
def installed(pooled):
    with psycopg.connect(pooled, **connection_options()) as connection:
        run(installation.apply(with_audit_log()), connection)
    return pooled


def test_apply_and_rollback_work_through_the_pooler(installed, database):
    with psycopg.connect(installed, **connection_options()) as connection:
        assert run(installation.plan(with_audit_log()), connection).changes == ()
        assert run(installation.apply(with_audit_log()), connection).changes == ()
        run(installation.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True), connection)
    with database.connect() as direct:
        assert direct.execute("select to_regnamespace('usersync')").fetchone() == (None,)


def sign_ups(database, count: int) -> list:
    with database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        rows = superuser.execute(
            "insert into auth.users (id, email) select gen_random_uuid(), n || '@example.com' "
            "from generate_series(1, %s) as n returning id",
            [count],
        ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.slow
def test_many_clients_share_few_server_sessions(installed, database):
    users = sign_ups(database, 48)

    def work(mine):
        with UserSync(installed) as client:
            answers = [client.ensure_user_exists(user) for user in mine]
            return (*answers, *(client.sync_auth_user(user) for user in mine), client.status().failed == 0)

    with ThreadPoolExecutor(24) as threads:
        assert all(all(answers) for answers in threads.map(work, (users[start::24] for start in range(24))))
    with database.connect() as direct:
        count = "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
        sessions = direct.execute(count, [database.name]).fetchone()[0]
    assert 1 <= sessions <= SERVERS
    with UserSync(installed) as client:
        assert client.status().in_step


@pytest.mark.slow
def test_many_asyncio_clients_share_few_server_sessions(installed, database):
    users = sign_ups(database, 48)

    async def work(mine):
        async with AsyncUserSync(installed) as client:
            answers = [await client.ensure_user_exists(user) for user in mine]
            return answers + [await client.sync_auth_user(user) for user in mine]

    async def main():
        return await asyncio.gather(*(work(users[start::24]) for start in range(24)))

    assert all(all(answers) for answers in asyncio.run(main()))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_run_works_through_the_pooler(installed, database, workers):
    sign_ups(database, 30)
    with UserSync(installed) as client:
        assert client.reconcile(page_size=2, workers=workers).counts == Counts(examined=30, missing=30)
        assert client.reconcile(dry_run=True).counts == Counts(examined=30)
        assert client.retry().counts == Counts()
        assert client.failures() == []


def test_no_setting_stays_in_a_shared_session(installed, database):
    with psycopg.connect(installed, **connection_options()) as connection:
        run(installation.apply(with_audit_log()), connection)
        for _ in range(SERVERS * 2):
            shown = connection.execute(
                "select current_setting('lock_timeout'), current_setting('search_path')"
            ).fetchone()
            assert shown[0] == "0"
            assert "public" in shown[1]
