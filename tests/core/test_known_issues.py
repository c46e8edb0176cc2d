"""Known issues that docs/known-issues.md names and that no other test is about."""

from __future__ import annotations

import pytest


@pytest.mark.newest_server
@pytest.mark.parametrize("delete", ["hard_delete", "soft_delete"])
@pytest.mark.parametrize(
    "on_delete",
    [
        pytest.param(each, marks=pytest.mark.settings(on_delete=each))
        for each in ("anonymize", "delete")
    ],
)  # fmt: skip
def test_an_address_that_is_unique_signs_up_again_after_a_deletion(
    project, sql, sync_failures, delete, on_delete
):
    sql("alter table {users} add unique ({email})")
    first = project.auth.sign_up_email("ada@example.com")
    getattr(project.auth, delete)(first)
    again = project.auth.sign_up_again("ada@example.com")
    assert again != first
    assert project.row(again)["email"] == "ada@example.com"
    assert sync_failures() == {}
    assert project.client.status().in_step


@pytest.mark.newest_server
def test_nothing_is_ever_written_to_the_auth_servers_table(project, sql, superuser_of):
    """Orphans in both directions, reconciled, retried, removed: the auth server's rows are the same rows."""
    users = project.auth.import_users(5)
    project.auth.soft_delete(users[0])
    look = "select ctid::text, xmin::text, u::text from auth.users as u order by 1"
    before = superuser_of.execute(look).fetchall()
    sql("delete from {users} where {key} = %s", users[1])
    sql("update {users} set {email} = 'stale' where {key} = %s", users[2])
    sql("insert into {users} ({key}) values (gen_random_uuid())")
    project.client.reconcile()
    project.client.remove_orphans(limit=1)
    project.client.retry()
    project.client.ensure_user_exists(users[3])
    sql("delete from {users}")
    assert superuser_of.execute(look).fetchall() == before
