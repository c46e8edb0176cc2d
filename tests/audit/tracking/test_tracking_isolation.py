"""Row tracking at each isolation level while other transactions change the actor or the table."""

from __future__ import annotations

import pytest

from fixtures_servers import ISOLATION_LEVELS as LEVELS

pytestmark = pytest.mark.one_isolation_level


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("column", ["full_name", "email"])
def test_a_change_by_an_actor_modified_since_the_snapshot_is_recorded(tracker, level, column):
    project = tracker.project
    tracker.execute("create table products (id int primary key, name text)")
    tracker.execute(f"alter table {project.users} add unique ({project.column('email')})")
    tracker.track("products")
    user = project.auth.sign_up_email("ada@example.com")
    with project.database.connect("postgres") as session:
        session.execute(f"begin isolation level {level}")
        session.execute("select set_config('usersync.actor_id', %s, true)", [str(user)])
        tracker.execute(f"update {project.users} set {project.column(column)} = 'changed'")
        session.execute("insert into products values (1, 'Bolt'), (2, 'Nut')")
        session.execute("update products set name = 'Screw' where id = 1")
        session.execute("commit")
    assert tracker.rejects() == []
    assert tracker.events("action, entity_id") == [
        ("products.inserted", "1"),
        ("products.inserted", "2"),
        ("products.updated", "1"),
    ]
    linked = tracker.events("coalesce(user_id::text, metadata ->> 'original_user_id')")
    assert linked == [str(user)] * 3
    if level == "read committed" or column == "full_name":
        assert tracker.events("user_id") == [user] * 3
    else:
        assert all(each.startswith("40001 ") for each in tracker.events("metadata ->> 'user_sync_error'"))


@pytest.mark.parametrize("level", LEVELS)
def test_a_column_added_after_the_snapshot_is_recorded(tracker, level):
    """The session has no query plan before, and keeps its plan afterwards."""
    tracker.execute("create table products (id int primary key, name text)")
    tracker.track("products")
    with tracker.project.database.connect("postgres") as session:
        session.execute(f"set default_transaction_isolation = '{level}'; begin; select 1")
        tracker.execute("alter table products add column size int")
        session.execute("insert into products values (1, 'Bolt', 5)")
        session.execute("commit")
        session.execute("insert into products values (2, 'Nut', 6)")
    in_old_snapshot, in_new_snapshot = tracker.events("changes")
    assert in_old_snapshot["name"] == [None, "Bolt"]
    assert in_new_snapshot == {"id": [None, 2], "name": [None, "Nut"], "size": [None, 6]}
    assert tracker.rejects() == []
