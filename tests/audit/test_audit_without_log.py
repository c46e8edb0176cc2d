"""usersync without an audit log: users are synced, events wait in the spool, and reading raises."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from audit_settings import with_audit_log
from usersync.audit import erasure, reading, upkeep
from usersync.audit.models import EventFilter
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.core import why
from usersync.errors import DatabaseError, NotInstalledError
from usersync.schema import delete_plan, installation
from usersync.transports.run import run


@pytest.fixture
def audit_enabled():
    return False


@pytest.fixture(params=["no table", "another table"])
def log_name(request, project):
    """With and without a table of the application that has the log's name."""
    if request.param == "another table":
        project.owner.execute(
            f"create table {project.settings.audit_table.quoted} (id bigint, user_id text, action text)"
        )
    return request.param


@pytest.fixture
def recording(project, make_log):
    return make_log(project.database.dsn())


@pytest.mark.slow
def test_events_wait_and_the_warning_names_the_command(project, recording, eventually, caplog, log_name):
    assert log_name
    for number in range(3):
        assert recording.record("stock.counted", metadata={"number": number})
    assert not recording.flush(timeout=0.5)
    eventually(lambda: recording.stats().last_error)
    assert "usersync audit enable" in caplog.text
    assert recording.stats().waiting == 3
    assert recording.stats().dropped == 0
    settings = with_audit_log(project.settings.describe() | {"audit": {"table": "public.other_log"}})
    run(installation.apply(settings), project.owner)
    assert recording.flush(timeout=20)
    assert project.owner.execute("select count(*) from public.other_log").fetchone() == (3,)


def test_record_in_warns_and_counts(project, recording, caplog, log_name):
    assert log_name
    caplog.set_level(logging.WARNING, "usersync.audit")
    with project.owner.transaction():
        assert recording.record_in(project.owner, "stock.counted") is None
        assert project.owner.execute("select 1").fetchone() == (1,)
    assert recording.stats().dropped == 1
    assert "usersync audit enable" in caplog.text


def test_record_in_raises_if_the_event_is_required(project, recording, log_name):
    assert log_name
    with pytest.raises(DatabaseError, match="usersync audit enable"), project.owner.transaction():
        recording.record_in(project.owner, "stock.counted", required=True)


def test_tracking_is_refused(project):
    project.owner.execute("create table public.products (id int primary key)")
    plan = tracking.track(project.settings, "public.products", TrackOptions(), Redactor().is_secret)
    with pytest.raises(NotInstalledError) as caught:
        run(plan, project.owner)
    assert "usersync audit enable" in caught.value.hint
    assert run(tracking.untrack(project.settings, "public.products"), project.owner).changes == ()


READING_CALLS = {
    "search": lambda: reading.search(EventFilter()),
    "history": lambda: reading.history("product", "1"),
    "partitions": upkeep.partitions,
}


@pytest.mark.parametrize("reader", READING_CALLS)
def test_reading_raises_without_an_audit_log(project, log_name, reader):
    assert log_name
    with pytest.raises(NotInstalledError, match="no audit log") as caught:
        run(READING_CALLS[reader](), project.owner)
    assert "usersync audit enable" in caught.value.hint


@pytest.mark.parametrize("policy", ["delete", "anonymize", "soft", "keep"])
def test_users_are_created_changed_and_deleted(project, log_name, policy, delete_without_triggers):
    assert log_name
    settings = replace(project.settings, on_delete=policy, on_soft_delete=policy)
    run(installation.apply(settings), project.owner)
    stays, goes, soft, unseen = (project.auth.sign_up_email(f"{each}@example.com") for each in "abcd")
    project.auth.change_email(stays, "new@example.com")
    project.auth.hard_delete(goes)
    project.auth.soft_delete(soft)
    delete_without_triggers(unseen)
    assert project.client.reconcile().errors == 0
    if policy != "keep":
        project.client.remove_orphans(limit=5)
    project.client.retry()
    assert project.row(stays)["email"] == "new@example.com"
    assert (project.row(goes) is None) == (policy == "delete")
    assert (project.row(unseen) is None) == (policy == "delete")
    assert project.client.failures() == []


def test_a_users_data_is_erased(project, log_name):
    assert log_name
    user = project.auth.sign_up_email("ada@example.com")
    assert run(why.explain_user(project.settings, user), project.owner)
    planned = run(delete_plan.plan_deletion(project.settings, user), project.owner)
    assert planned.linked_events is None
    project.auth.soft_delete(user)
    erased = run(erasure.erase(user), project.owner)
    assert not erased.has_log
    assert erased.recorded is False
    assert project.row(user)["email"] is None
