"""Events and Django's transactions: atomic blocks, requests, connections, poolers, two databases."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django_site import described
from psycopg.conninfo import conninfo_to_dict

from fixtures_pooler import pgbouncer
from usersync.contrib.django import audit, record_on_commit
from usersync.errors import DatabaseError

pytestmark = pytest.mark.newest_server


def users():
    return get_user_model().objects


def names():
    return sorted(users().values_list("username", flat=True))


def test_an_event_commits_with_its_atomic_block_or_not_at_all(site):
    with transaction.atomic():
        users().create(username="a")
        audit.record_in(connection, "user.made")
        with transaction.atomic():
            users().create(username="lost")
            audit.record_in(connection, "user.lost")
            transaction.set_rollback(True)
    with transaction.atomic():
        audit.record_in(connection, "user.lost")
        transaction.set_rollback(True)
    audit.record_in(connection, "by.itself")
    assert (names(), site.events("action")) == (["a"], ["user.made", "by.itself"])


def test_an_event_that_cannot_be_stored_leaves_the_block_usable(site):
    site.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    with transaction.atomic():
        users().create(username="a")
        assert audit.record_in(connection, "user.made") is None
        with pytest.raises(DatabaseError, match="was not stored"):
            audit.record_in(connection, "user.made", required=True)
        users().create(username="b")
    assert names() == ["a", "b"]
    assert audit.stats().dropped == 1


def test_recording_in_a_failed_block_changes_nothing(site):
    def work():
        users().create(username="a")
        with pytest.raises(IntegrityError):
            users().create(username="a")
        assert audit.record_in(connection, "user.made") is None
        record_on_commit("user.made")
        users().create(username="b")

    with pytest.raises(TransactionManagementError), transaction.atomic():
        work()
    assert (names(), site.events("action")) == ([], [])


@pytest.mark.parametrize("fails", [False, True])
def test_with_atomic_requests(site, use, fails):
    use(default=described(site.database, ATOMIC_REQUESTS=True))
    answer = site.wsgi("record_in" + "?fail" * fails)
    if fails:
        assert (answer.status, names(), site.events("action")) == (500, [], ["row.tried"])
    else:
        assert (answer.status, names()) == (200, ["made"])
        assert sorted(site.events("action")) == ["row.committed", "row.made", "row.tried"]


def test_with_autocommit_off(site, use):
    use(default=described(site.database, AUTOCOMMIT=False))
    users().create(username="lost")
    audit.record_in(connection, "user.lost")
    record_on_commit_or_refuse()
    connection.rollback()
    users().create(username="a")
    audit.record_in(connection, "user.made")
    connection.commit()
    assert (names(), site.events("action")) == (["a"], ["user.made"])


def record_on_commit_or_refuse():
    # Django does not notice the end of such a transaction.
    with pytest.raises(TransactionManagementError):
        record_on_commit("user.made")


def test_a_persistent_connection_keeps_no_settings_for_the_next_request(site, use):
    use(default=described(site.database, CONN_MAX_AGE=None))
    for n in range(3):
        site.wsgi(f"record_in_an_atomic_block?n={n}", x_request_id=f"r{n}")
        users().all().delete()
    assert connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('usersync.actor_id', true)")
        assert not cursor.fetchone()[0]
    assert site.events("request_id") == ["r0", "r1", "r2"]


def test_values_are_those_of_the_call_and_not_of_the_commit(site):
    user = get_user_model()(username="before")
    with transaction.atomic():
        with audit.context(actor_id="ada"):
            record_on_commit("user.made", after=user, entity=("user", 1))
        user.username = "after"
        assert site.events() == []
    ((actor_id, changes),) = site.events("actor_id, changes")
    assert (actor_id, changes["username"], changes["password"]) == (
        "ada",
        [None, "before"],
        [None, "[redacted]"],
    )


def test_two_databases_have_their_own_transactions_and_events(site, use, cluster):
    other = cluster.clone(cluster.template("django"))
    try:
        use(default=described(site.database), other=described(other))
        with transaction.atomic(using="other"):
            audit.record_in(connections["other"], "other.made")
            record_on_commit("default.made")
            record_on_commit("other.lost", using="other")
            transaction.set_rollback(True, using="other")
        with transaction.atomic(using="other"):
            audit.record_in(connections["other"], "other.made")
        assert site.events("action") == ["default.made"]
        with other.connect() as owner:
            assert owner.execute("select action from audit_logs").fetchall() == [("other.made",)]
    finally:
        connections["other"].close()
        cluster.drop(other)


def test_through_a_transaction_pooler(site, use):
    with pgbouncer(site.database) as dsn:
        use(default=described(site.database, PORT=str(conninfo_to_dict(dsn)["port"])))
        for n in range(12):
            assert site.wsgi("record_in", x_request_id=f"r{n}").status == 200
            users().all().delete()
        assert len(site.events("id")) == 36
        connection.close()
