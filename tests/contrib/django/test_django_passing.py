"""PASS_CONTEXT: row tracking has the actor in Django's transactions and in autocommit."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, connections, transaction
from django_site import described
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from audit_settings import with_audit_log
from fixtures_pooler import pgbouncer
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.contrib.django import audit
from usersync.errors import SettingsError
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


@pytest.fixture
def site(site, configure, use):
    configure(PASS_CONTEXT=True)
    plan = tracking.track(
        with_audit_log(), "public.auth_user", TrackOptions(columns=("username",)), Redactor().is_secret
    )
    run(plan, site.owner)
    use(default=described(site.database))
    return site


def users():
    return get_user_model().objects


def actors(site):
    """Of each event: the action, the row, the actor."""
    found = site.owner.execute(
        "select coalesce(changes -> 'username' ->> 1, changes -> 'username' ->> 0), actor_id "
        "from audit_logs where source = 'trigger' order by occurred_at, id"
    )
    return found.fetchall()


@contextmanager
def sent_statements():
    """The statements as sent: the last wrapper is the innermost."""
    connection.ensure_connection()
    sent = []

    def note(execute, statement, params, many, context):
        sent.append(statement)
        return execute(statement, params, many, context)

    connection.execute_wrappers.append(note)
    try:
        yield sent
    finally:
        connection.execute_wrappers.remove(note)


def settings_left():
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('usersync.actor_id', true)")
        return cursor.fetchone()[0]


def test_the_actor_is_passed_in_autocommit_and_in_a_transaction(site):
    fields = {"request_id": "r", "ip": "203.0.113.9", "user_agent": "50%; 'x' \\ \"ü\" %s"}
    with audit.context(actor_id="ada", **fields):
        user = users().create(username="a")
        with transaction.atomic():
            user.username = "100%"
            user.save()
            assert users().filter(pk=user.pk).update(username="b") == 1
        assert users().filter(pk=user.pk).delete()[0] == 1
    assert actors(site) == [("a", "ada"), ("100%", "ada"), ("b", "ada"), ("b", "ada")]
    facts = site.owner.execute("select distinct request_id, host(ip), user_agent from audit_logs")
    assert facts.fetchall() == [tuple(fields.values())]
    assert not settings_left()


def test_it_sends_no_extra_message_and_nothing_when_reading(site):
    with audit.context(actor_id="ada"), sent_statements() as sent:
        users().create(username="a")
        list(users().all())
    assert [each.count("set_config('usersync.actor_id'") for each in sent] == [1, 0]


def test_without_a_context_nothing_is_sent(site):
    with sent_statements() as sent:
        users().create(username="a")
    assert [each for each in sent if "set_config" in each] == []
    assert actors(site) == [("a", "postgres")]


def test_a_transaction_does_not_inherit_the_settings_of_the_previous_one(site):
    with audit.context(actor_id="ada"), transaction.atomic():
        users().create(username="a")
    with sent_statements() as sent, transaction.atomic():
        assert users().count() == 1
        users().create(username="b")
    assert [each for each in sent if "set_config" in each] == []
    assert actors(site) == [("a", "ada"), ("b", "postgres")]


def test_a_context_that_changes_within_a_transaction_changes_the_actor(site):
    with transaction.atomic():
        with audit.context(actor_id="ada"):
            users().create(username="a")
            with audit.context(actor_id="bea"):
                users().create(username="b")
            users().create(username="c")
        users().create(username="d")
    users().create(username="e")
    assert actors(site) == [("a", "ada"), ("b", "bea"), ("c", "ada"), ("d", "postgres"), ("e", "postgres")]


def test_the_actor_is_passed_after_rolled_back_savepoints(site):
    with audit.context(actor_id="ada"), transaction.atomic():
        users().create(username="a")
        with pytest.raises(IntegrityError), transaction.atomic():
            users().create(username="a")
        with transaction.atomic():
            users().create(username="lost")
            transaction.set_rollback(True)
        users().create(username="b")
    assert actors(site) == [("a", "ada"), ("b", "ada")]


def test_a_context_that_ends_before_its_savepoint_is_rolled_back(site):
    with transaction.atomic():
        with audit.context(actor_id="ada"):
            users().create(username="a")
        with transaction.atomic():
            users().create(username="lost")
            transaction.set_rollback(True)
        users().create(username="b")
    assert actors(site) == [("a", "ada"), ("b", "postgres")]


def test_raw_statements_of_every_kind(site):
    with audit.context(actor_id="ada"), connection.cursor() as cursor:
        values = "values (%s, '', false, '', '', '', false, true, now()) returning id, username"
        columns = "password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined"
        insert = f"insert into auth_user (username, {columns}) {values}"
        cursor.execute(insert, ["a"])
        assert (cursor.rowcount, cursor.fetchone()[1], cursor.description[1].name) == (1, "a", "username")
        cursor.execute(f"with made as ({insert}) select count(*) from made", ["b"])
        assert cursor.fetchall() == [(1,)]
        cursor.execute("update auth_user set username = 'c%' where username = 'b'")
        assert cursor.rowcount == 1
        cursor.execute(
            "update auth_user set username = username || '!' where username like '%%c%%' or %s", [False]
        )
        with transaction.atomic():
            cursor.executemany(
                "update auth_user set username = %s where username = %s", [("d", "a"), ("e", "d")]
            )
            assert cursor.rowcount == 2
        cursor.execute(sql.SQL("select username from auth_user order by 1"))
        assert cursor.fetchall() == [("c%!",), ("e",)]
    assert {actor for _, actor in actors(site)} == {"ada"}
    assert len(actors(site)) == 6


def test_with_server_side_binding_the_context_is_a_separate_statement(site, use):
    use(default=described(site.database, OPTIONS={"server_side_binding": True}))
    with audit.context(actor_id="ada"):
        with transaction.atomic():
            users().create(username="a")
        users().create(username="b")
    assert actors(site) == [("a", "ada"), ("b", "postgres")]
    assert not settings_left()


def test_the_actor_of_a_request_is_passed(site):
    user = site.user("ada")
    site.wsgi("record_in", cookie=site.cookie(user), x_request_id="r-1")
    site.asgi("record_in_an_atomic_block", cookie=site.cookie(user), x_request_id="r-2")
    found = site.owner.execute(
        "select request_id, actor_id from audit_logs where source = 'trigger' and request_id is not null "
        "order by 1"
    )
    assert found.fetchall() == [("r-1", str(user.pk))]
    assert not settings_left()


def test_signing_in_and_out_changes_the_passed_actor(site):
    user = site.user("ada")
    assert site.wsgi("sign_in_and_out?name=ada").status == 200
    assert site.events("action, actor_id")[-3:] == [
        ("step.before", None),
        ("step.signed_in", str(user.pk)),
        ("step.signed_out", None),
    ]


def test_the_actor_is_passed_through_a_transaction_pooler(site, use):
    with pgbouncer(site.database) as dsn:
        use(default=described(site.database, PORT=str(conninfo_to_dict(dsn)["port"])))
        for n in range(9):
            with audit.context(**({"actor_id": f"task{n}"} if n % 3 else {})):
                users().create(username=f"task{n}" if n % 3 else f"postgres{n}")
            connection.close()
        assert all(name.startswith(actor) for name, actor in actors(site))
        assert len(actors(site)) == 9


def test_nothing_is_sent_to_another_database(site, use, cluster):
    other = cluster.clone(cluster.template("django"))
    try:
        use(default=described(site.database), other=described(other))
        with audit.context(actor_id="ada"), transaction.atomic(using="other"):
            users().using("other").create(username="a")
            with connections["other"].cursor() as cursor:
                cursor.execute("select current_setting('usersync.actor_id', true)")
                assert not cursor.fetchone()[0]
    finally:
        connections["other"].close()
        cluster.drop(other)


def test_an_invalid_switch_is_refused(site, configure):
    configure(PASS_CONTEXT=1)
    with pytest.raises(SettingsError, match="PASS_CONTEXT"):
        site.wsgi("nothing")
