"""Back-off: a failing user is retried at growing intervals, and runs skip the user in between."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

REFUSE = "alter table {users} add constraint refuse check (false) not valid"
ACCEPT = "alter table {users} drop constraint refuse"


@pytest.fixture
def failing(project, sql):
    """A user whose row was refused at the sign-up and in five runs."""
    sql(REFUSE)
    user = project.auth.sign_up_email("ada@example.com")
    for _ in range(5):
        assert project.client.reconcile().counts.failed == 1
    return user


def attempts(project, user):
    return project.failure(user).attempts


def test_the_first_five_runs_try_the_user_and_the_next_one_waits(project, failing):
    assert attempts(project, failing) == 6
    failure = project.failure(failing)
    wait = failure.next_try_at - failure.last_failed_at
    assert wait.total_seconds() == 60
    assert project.client.reconcile().counts.failed == 1
    assert attempts(project, failing) == 6


def test_the_wait_doubles_up_to_a_day(project, failing):
    waits = []
    for _ in range(13):
        project.client.retry()
        failure = project.failure(failing)
        waits.append((failure.next_try_at - failure.last_failed_at).total_seconds() / 60)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440, 1440]


def test_a_thousand_failures_of_one_user_do_not_delay_another_user(project, failing, sql):
    sql("update usersync.sync_failures set attempts = 1029, next_try_at = now()")
    other = project.auth.sign_up_email("grace@example.com")
    sql("delete from usersync.sync_failures where user_id = %s", other)
    project.client.reconcile()
    assert attempts(project, failing) == 1030
    assert attempts(project, other) == 1


def test_a_run_retries_users_whose_wait_has_ended(project, failing, sql):
    sql("update usersync.sync_failures set next_try_at = now()")
    sql(ACCEPT)
    project.client.reconcile()
    assert project.failure(failing) is None
    assert project.client.status().in_step


@pytest.mark.parametrize(
    "how",
    [
        lambda client: client.retry(),
        lambda client: client.reconcile(retry_failures=True),
        lambda client: client.ensure_user_exists(client.failures()[0].user_id),
        lambda client: client.sync_auth_user(client.failures()[0].user_id),
    ],
    ids=["retry", "reconcile with retry_failures", "ensure_user_exists", "sync_auth_user"],
)
def test_an_explicit_retry_ignores_the_wait(project, failing, sql, how):
    sql(ACCEPT)
    how(project.client)
    assert project.failure(failing) is None
    assert project.row(failing)


def test_retry_with_due_examines_only_users_whose_wait_has_ended(project, failing, sql):
    assert project.client.retry(due=True).counts.examined == 0
    sql("update usersync.sync_failures set next_try_at = now()")
    assert project.client.retry(due=True).counts.examined == 1
    assert project.client.retry(due=True).counts.examined == 0


def test_a_change_of_the_user_is_synced_at_once(project, failing, sql):
    sql(ACCEPT)
    project.auth.change_email(failing, "lovelace@example.com")
    assert project.row(failing)["email"] == "lovelace@example.com"


@pytest.mark.slow
def test_a_run_uses_few_transaction_ids_for_a_thousand_failing_users(project, sql, insert_without_triggers):
    sql(REFUSE)
    insert_without_triggers(1_000)
    project.client.reconcile()
    sql("update usersync.sync_failures set attempts = 6, next_try_at = now() + interval '1 hour'")

    def cost() -> int:
        before = sql("select pg_current_xact_id()::text::bigint")[0][0]
        assert project.client.reconcile().counts.failed == 1_000
        return sql("select pg_current_xact_id()::text::bigint")[0][0] - before

    # Other tests use transaction ids of the same server, so a count can only be too high.
    assert any(cost() < 10 for _ in range(50))
