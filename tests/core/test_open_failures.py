"""A sync failure stays open until the user's row is in sync, even if the application wrote the row."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.newest_server

REFUSE = "alter table {users} add constraint refuse check (false) not valid"


@pytest.fixture
def failed(project, sql):
    """A user without a row, because the table refused every row."""
    sql(REFUSE)
    user = project.auth.sign_up_email("ada@example.com", data={"name": "Ada"})
    sql("alter table {users} drop constraint refuse")
    assert project.client.status().failed == 1
    return user


def test_a_complete_row_closes_the_failure(project, failed, sql):
    columns = "{key}, {email}, {full_name}"
    # This row lacks created_at, which is also mapped.
    sql(f"insert into {{users}} ({columns}) values (%s, 'ada@example.com', 'Ada')", failed)
    assert [each.user_id for each in project.client.failures()] == [failed]
    status = project.client.status()
    assert (status.failed, status.stale) == (1, 1)
    sql("delete from {users} where {key} = %s", failed)
    sql("select usersync.write_full_rows(array[%s]::uuid[], false)", failed)
    assert project.client.failures() == []
    status = project.client.status()
    assert (status.failed, status.by_sqlstate, status.in_step) == (0, {}, True)
    assert project.client.retry().errors == 0
    project.client.reconcile()
    assert sql("select count(*) from usersync.sync_failures") == [(0,)]


def test_degraded_rows_and_failed_removals_stay_open(project, failed, sql):
    sql("update usersync.sync_failures set outcome = 'degraded'")
    sql("select usersync.write_full_rows(array[%s]::uuid[], false)", failed)
    assert project.client.status().degraded == 1
    sql("update usersync.sync_failures set outcome = 'failed', kind = 'removal'")
    assert project.client.status().removal_failed == 1
    assert len(project.client.failures()) == 1


def test_all_failures_stay_open_if_the_users_table_is_missing(project, failed, broken):
    with broken("missing"):
        assert [each.user_id for each in project.client.failures()] == [failed]
