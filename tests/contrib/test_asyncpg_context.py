"""ContextConnection: row tracking knows the actor of statements over asyncpg."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from audit_settings import with_audit_log
from usersync import AuditLog
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.contrib.asyncpg import ContextConnection
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

ADD = "insert into products (name) values ($1)"


@pytest.fixture
def products(backend):
    """Adds a tracked table; returns the product and the actor of each event so far, and forgets them."""
    backend.owner.execute("create table public.products (name text primary key)")
    run(
        tracking.track(with_audit_log(), "public.products", TrackOptions(), Redactor().is_secret),
        backend.owner,
    )

    def actors():
        rows = backend.owner.execute(
            "select coalesce(changes -> 'name' ->> 1, entity_id), actor_id from public.audit_logs"
        )
        return dict(rows.fetchall())

    return actors


def test_the_context_of_each_statement_is_passed(backend, products, tmp_path):
    async def main():
        async with asyncpg.create_pool(
            backend.dsn, min_size=1, max_size=1, connection_class=ContextConnection
        ) as pool:
            sent = []
            with log.context(actor_id="ada"):
                async with pool.acquire() as connection, connection.transaction():
                    connection.add_query_logger(lambda record: sent.append(record.query))
                    await connection.execute(ADD, "by ada")
                    await connection.fetch(ADD, "by ada too")
                    assert sum("set_config" in each for each in sent) == 1
                    with log.context(actor_id="grace"):
                        await connection.executemany(ADD, [("by grace",)])
                        await connection.copy_records_to_table("products", records=[("copied",)])
                    with pytest.raises(asyncpg.UniqueViolationError), log.context(actor_id="eve"):
                        async with connection.transaction():
                            await connection.execute(ADD, "by ada")
                    with log.context(actor_id="eve"):
                        await connection.fetchrow(f"{ADD} returning name", "after the savepoint")
                    await connection.fetchval(f"{ADD} returning name", "by ada again")
                    statement = await connection.prepare(ADD)
                    await statement.fetch("prepared")
            # The connection is used again, without a context.
            async with pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute(ADD, "by nobody")
                await connection.execute("begin")
                with log.context(actor_id="ada"):
                    await connection.execute(ADD, "begun by hand")
                    await connection.execute("commit and chain")
                    await connection.execute(ADD, "chained")
                await connection.execute("commit")
                assert not await connection.fetchval("select current_setting('usersync.actor_id', true)")

    with AuditLog.recording_only(spool_dir=tmp_path, exit_timeout=0) as log:
        asyncio.run(main())
    assert products() == {
        "by ada": "ada",
        "by ada too": "ada",
        "by grace": "grace",
        "copied": "grace",
        "by ada again": "ada",
        "after the savepoint": "eve",
        "prepared": "ada",
        "by nobody": "postgres",
        "begun by hand": "ada",
        "chained": "ada",
    }
