"""Erasure in a users table with its own key: only recorded changes of the user's row are erased."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sql_log import event, send

from audit_settings import with_audit_log
from usersync.audit import erasure
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

# The column's name contains the character that drivers use for parameters.
TABLES = """
    create table public.users (
        "100%" text primary key default 'row ' || lpad((random() * 1e9)::bigint::text, 300, '0'),
        auth_id uuid unique, email text unique, nick text
    );
    create table public.orders ("100%" text primary key, email text);
"""


@pytest.fixture(params=["anonymize", "delete"])
def settings(request):
    return with_audit_log(
        {
            "key": "auth_id",
            "on_delete": request.param,
            "columns": {"email": "email", "nick": "user_metadata.nick"},
        }
    )


@pytest.fixture
def auth(database, postgres, settings):
    postgres.execute(TABLES)
    install(database, settings)
    for table in ("public.users", "public.orders"):
        run(tracking.track(settings, table, TrackOptions(), Redactor().is_secret), postgres)
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        yield auth


def test_recorded_changes_of_the_row_are_erased_even_if_the_row_was_deleted(auth, postgres, monkeypatch):
    monkeypatch.setattr(erasure, "PAGE_BLOCKS", 1)
    ada = auth.sign_up_email("ada@example.com", data={"nick": "countess"})
    auth.sign_up_email("eve@example.com", data={"nick": "eve"})
    auth.change_email(ada, "lovelace@example.com")
    postgres.execute('insert into public.orders select "100%", email from public.users')
    auth.hard_delete(ada)
    planned = run(erasure.erase(ada, dry_run=True), postgres)
    done = run(erasure.erase(ada), postgres)
    told = [
        str(row) for row in postgres.execute("select changes from audit_logs where entity_type = 'users'")
    ]
    assert planned.events == done.events == 3
    assert not any(word in row for row in told for word in ("ada@", "lovelace@", "countess"))
    assert sum("eve@example.com" in row for row in told) == 1
    # A row of another table with the same key does not belong to the user.
    orders = postgres.execute("select changes ->> 'email' from audit_logs where entity_type = 'orders'")
    assert any("lovelace@" in row[0] for row in orders)
    assert not run(erasure.erase(ada), postgres).anything


def test_a_forged_key_in_an_event_erases_no_other_events(auth, postgres):
    ada = auth.sign_up_email("ada@example.com")
    send(
        postgres,
        event(entity_type="users", entity_id=None, changes={"auth_id": str(ada)}),
        event(entity_type="users", entity_id="", changes=["auth_id", str(ada)]),
        event(entity_type="users", entity_id=str(uuid4()), changes={"email": "kept@example.com"}),
    )
    auth.hard_delete(ada)
    run(erasure.erase(ada), postgres)
    kept = postgres.execute("select from audit_logs where changes ->> 'email' = 'kept@example.com'")
    assert kept.rowcount == 1
