"""What is recorded of a table that is tracked."""

from __future__ import annotations

import pytest

from usersync.audit.redaction import Redactor
from usersync.plans import tracking
from usersync.plans.tracking import TrackOptions
from usersync.runner import run

is_secret = Redactor().is_secret


@pytest.fixture
def owner(project):
    return project.owner


@pytest.fixture
def track(project):
    def call(table, **options):
        return run(
            tracking.track(project.settings, table, TrackOptions(**options), is_secret), project.owner
        )

    return call


@pytest.fixture
def events(project):
    def call(columns="action, entity_id, changes"):
        return project.owner.execute(
            f"select {columns} from public.audit_logs where source = 'trigger' order by occurred_at, action, entity_id"
        ).fetchall()

    return call


def test_each_change_of_a_row_is_an_event(owner, track, events):
    owner.execute("create table products (id int primary key, name text, qty int)")
    track("products")
    owner.execute("insert into products values (1, 'Bolt', 5), (2, null, 7)")
    owner.execute("update products set qty = qty + 1 where id = 1")
    owner.execute("update products set name = name")
    owner.execute("delete from products where id = 2")
    owner.execute("truncate products")
    assert events() == [
        ("products.inserted", "1", {"id": [None, 1], "name": [None, "Bolt"], "qty": [None, 5]}),
        ("products.inserted", "2", {"id": [None, 2], "qty": [None, 7]}),
        ("products.updated", "1", {"qty": [5, 6]}),
        ("products.deleted", "2", {"id": [2, None], "qty": [7, None]}),
        ("products.truncated", None, None),
    ]
