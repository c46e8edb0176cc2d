"""Erasure finds a user's data in events of other users, by the user's id and addresses."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb
from sql_log import event, send

from usersync.audit import erasure
from usersync.audit.tracking.operations import track
from usersync.audit.tracking.state import TrackOptions
from usersync.errors import ArgumentValueError
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

ADDRESS = "ada@example.com"


@pytest.fixture
def user(project):
    return project.auth.sign_up_email(ADDRESS, data={"full_name": "Ada"})


@pytest.fixture
def delete_user(project, user):
    """A function that deletes the user."""
    return lambda: project.auth.hard_delete(user)


def erase(project, user, *values, **options):
    return run(erasure.erase(user, values=values, **options), project.owner)


def contents(project):
    table = project.settings.audit_table.quoted
    rows = project.owner.execute(f"select to_jsonb(log)::text from {table} as log").fetchall()
    rows += project.owner.execute("select event::text from usersync.audit_rejects").fetchall()
    return "\n".join(row[0] for row in rows)


def test_an_address_in_a_tracked_table_is_erased(project, user, delete_user):
    """The entity of the events is an invoice, and their actor is a database role."""
    project.owner.execute("create table public.invoices (id int primary key, user_id uuid, email text)")
    run(track(project.settings, "public.invoices", TrackOptions(), lambda *_: False), project.owner)
    project.owner.execute("insert into public.invoices values (1, %s, %s)", [user, ADDRESS])
    project.owner.execute("delete from public.invoices")
    delete_user()
    assert contents(project).count(ADDRESS) == 2
    assert erase(project, user, dry_run=True).events == 2
    assert erase(project, user).events == 2
    assert ADDRESS not in contents(project)
    assert erase(project, user).events == 0


def test_an_address_in_an_event_without_the_users_id_is_erased_on_request(project, user, delete_user):
    sent = [
        event(metadata={"to": [ADDRESS.upper()], "note": f"mail to {ADDRESS}", "other": "kept"}),
        event(changes={"contact": [ADDRESS, "bob@example.com"]}, ip="192.0.2.7"),
        event(metadata={"to": "adam@example.com"}),
    ]
    send(project.owner, *sent)
    delete_user()
    assert erase(project, user, ADDRESS).events == 2
    found = contents(project)
    assert ADDRESS not in found.lower().replace("adam@example.com", "")
    for kept in ("bob@example.com", "adam@example.com", "kept", "192.0.2.7"):
        assert kept in found


def test_former_addresses_are_found_in_recorded_changes_of_the_row(project, user, delete_user):
    recorded = event(
        entity_type=erasure.entity_type(project.settings.users_table),
        entity_id=str(user),
        changes={project.columns["email"]: [None, ADDRESS]},
    )
    send(project.owner, recorded, event(metadata={"sent": ADDRESS}))
    delete_user()
    assert erase(project, user).addresses == 1
    assert ADDRESS not in contents(project)


def test_an_address_in_a_rejected_event_is_erased(project, user, delete_user):
    send(project.owner, event(ip="nowhere", metadata={"to": ADDRESS, "kept": 7}))
    delete_user()
    assert erase(project, user, ADDRESS).rejects == 1
    assert ADDRESS not in contents(project)
    assert '"kept": 7' in contents(project)


@pytest.mark.parametrize("short", ["", "a@b", "    x "])
def test_a_value_that_is_too_short_is_refused(project, user, delete_user, short):
    delete_user()
    with pytest.raises(ArgumentValueError, match="fewer than 5 characters"):
        erase(project, user, short)


@pytest.mark.parametrize(
    ("document", "left"),
    [
        ({"a": ["x ada@example.com y", 1]}, {"a": ["[erased]", 1]}),
        ({"ada@example.com": 1}, {"ada@example.com": 1}),
        ([None, True, "ADA@EXAMPLE.COM"], [None, True, "[erased]"]),
        ("adam@example.com", "adam@example.com"),
        ({"n": 15550001234}, {"n": "[erased]"}),
        ({}, {}),
    ],
)
def test_values_in_a_json_document_are_erased(project, document, left):
    (found,) = project.owner.execute(
        "select usersync.erase_values(%s, %s)", [Jsonb(document), [ADDRESS, "15550001234"]]
    ).fetchone()
    assert found == left
