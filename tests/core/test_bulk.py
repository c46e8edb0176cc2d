"""Many users in one statement: they cost few transaction ids, and one bad one does not cost the others."""

from __future__ import annotations

import uuid

import pytest

pytestmark = pytest.mark.newest_server

# Transaction ids of subtransactions that a session's open transaction has used up and kept. The server is
# shared with other tests, so the counter of the whole server would not do.
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


def whole(sql):
    return sql("select count(*) from {users} where {email} is not null")[0][0]


@pytest.mark.parametrize("way", ["one statement", "copy"])
def test_a_hundred_thousand_users_take_three_transaction_ids(project, sql, subtransactions, way):
    with project.auth.request():
        if way == "copy":
            project.auth.copy_users(f"u{n}@example.com" for n in range(100_000))
        else:
            project.auth.import_users(100_000)
        assert subtransactions() <= 2  # and one for the transaction itself
    assert whole(sql) == 100_000
    assert project.client.status().in_step


def test_a_trigger_that_fires_before_ours_makes_each_row_pay_and_so_the_count_can_fail(
    project, sql, subtransactions
):
    sql("create function public.early() returns trigger language plpgsql as 'begin return null; end'")
    sql("create trigger a_first after insert on auth.users for each row execute function public.early()")
    with project.auth.request():
        project.auth.import_users(100)
        assert subtransactions() > 2
    assert whole(sql) == 100


def test_one_bad_row_among_ten_thousand(project, sql, sync_failures, subtransactions):
    sql("alter table {users} add constraint rule check ({full_name} <> 'User 7777')")
    with project.auth.request():
        ids = project.auth.import_users(10_000)
        # Halving: as many attempts as 10,000 has binary digits, and the failures table.
        assert subtransactions() <= 20
    assert whole(sql) == 9_999
    assert {user: each.constraint for user, each in sync_failures().items()} == {ids[7776]: "rule"}


def test_a_whole_import_without_a_table_is_noted_in_one_go(project, broken, subtransactions):
    with broken("missing"):
        with project.auth.request():
            project.auth.import_users(50_000)
            assert subtransactions() <= 3
        assert len(project.client.failures(limit=60_000)) == 50_000
    assert project.client.reconcile().errors == 0
    assert project.client.status().in_step


def test_a_whole_import_that_a_column_refuses_is_noted_row_by_row(project, broken, sync_failures):
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


def test_plans_made_while_the_tables_were_empty_stay_linear(project, superuser_of):
    """An empty table that was analyzed is the planner's trap: it may join by reading all for each row."""
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
