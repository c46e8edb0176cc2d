"""Many users in one statement use few transaction ids, and one refused row does not affect the others."""

from __future__ import annotations

import uuid

import pytest

pytestmark = pytest.mark.newest_server

# Subtransactions with a transaction id in a session's open transaction. The counter of the whole server
# would include other tests.
SUBTRANSACTIONS = """
    select subxact.subxact_count, subxact.subxact_overflowed
    from pg_stat_get_backend_idset() as backend
    cross join pg_stat_get_backend_subxact(backend) as subxact
    where pg_stat_get_backend_pid(backend) = %s
"""


@pytest.fixture
def subtransactions(project):
    """How many subtransactions with an id the auth server's open transaction has."""
    with project.database.connect("supabase_admin") as superuser:

        def count():
            pid = project.auth.connection.info.backend_pid
            number, overflowed = superuser.execute(SUBTRANSACTIONS, [pid]).fetchone()
            return 65 if overflowed else number

        yield count


def complete_rows(sql):
    return sql("select count(*) from {users} where {email} is not null")[0][0]


@pytest.mark.parametrize("way", ["one statement", "copy"])
def test_ten_thousand_users_take_three_transaction_ids(project, sql, subtransactions, way):
    with project.auth.request():
        if way == "copy":
            project.auth.copy_users(f"u{n}@example.com" for n in range(10_000))
        else:
            project.auth.import_users(10_000)
        assert subtransactions() <= 2  # plus one for the transaction itself
    assert complete_rows(sql) == 10_000
    assert project.client.status().in_step


def test_an_earlier_trigger_costs_a_subtransaction_for_each_row(project, sql, subtransactions):
    """Also shows that the other tests' counts of subtransactions can fail."""
    sql("create function public.early() returns trigger language plpgsql as 'begin return null; end'")
    sql("create trigger a_first after insert on auth.users for each row execute function public.early()")
    with project.auth.request():
        project.auth.import_users(100)
        assert subtransactions() > 2
    assert complete_rows(sql) == 100


@pytest.mark.slow
@pytest.mark.settings(budget_ms=8000)  # so that a slow machine makes all attempts, too
def test_one_refused_row_among_ten_thousand_is_the_only_failure(project, sql, sync_failures, subtransactions):
    sql("alter table {users} add constraint rule check ({full_name} <> 'User 7777')")
    with project.auth.request():
        ids = project.auth.import_users(10_000)
        # The rows are halved until the refused one is found: log2(10,000) attempts, and the failures table.
        assert subtransactions() <= 20
    assert complete_rows(sql) == 9_999
    assert {user: each.constraint for user, each in sync_failures().items()} == {ids[7776]: "rule"}


def test_an_import_without_a_users_table_stores_its_failures_with_few_transaction_ids(
    project, broken, subtransactions
):
    with broken("missing"):
        with project.auth.request():
            project.auth.import_users(5_000)
            assert subtransactions() <= 3
        assert len(project.client.failures(limit=6_000)) == 5_000
    assert project.client.reconcile().errors == 0
    assert project.client.status().in_step


def test_an_import_that_violates_not_null_stores_a_failure_for_each_row(project, broken, sync_failures):
    with broken("not_null"):
        project.auth.import_users(500)
        assert {each.sqlstate for each in sync_failures().values()} == {"23502"}
        assert len(sync_failures()) == 500
    project.client.reconcile()
    assert project.client.status().in_step


READ = """
    select sum(pg_stat_get_xact_tuples_returned(indexrelid))
    from pg_index where indrelid in ('auth.users'::regclass, %s::regclass)
"""


def test_a_plan_made_for_empty_tables_reads_a_linear_number_of_rows(project, superuser_of):
    """After ANALYZE of an empty table, the planner may choose a join that reads all rows for each row."""
    count, users = 4_000, project.users
    superuser_of.execute(f"analyze auth.users; analyze {users}; set session_replication_role = replica")
    with superuser_of.transaction():
        superuser_of.execute(
            "insert into auth.users (id, email) select gen_random_uuid(), n || '@example.com'"
            " from generate_series(1, %s) as n",
            [count],
        )
        for damage in (
            "select",
            f"update {users} set {project.column('email')} = 'x'",
            "delete from auth.users",
        ):
            superuser_of.execute(damage)
            before = superuser_of.execute(READ, [users]).fetchone()[0]
            superuser_of.execute(
                "select usersync.reconcile_page(%s, %s, 200000, false)",
                [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
            )
            read = superuser_of.execute(READ, [users]).fetchone()[0] - before
            assert read < 40 * count
    assert project.client.failures() == []
