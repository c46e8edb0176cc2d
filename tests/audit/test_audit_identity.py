"""Events are sent only to the database for which they were recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from killing import kill_recorders
from psycopg.conninfo import conninfo_to_dict

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from old_spool_files import old_spool_file
from postgrest_server import SECRET_KEY
from usersync import AuditLog, DataApi
from usersync.audit.spool import file_format
from usersync.audit.spool.address import destination_of
from usersync.audit.spool.binding import Destination, Origin, belongs, is_expected
from usersync.config.dsn import describe_target
from usersync.core.position import DatabasePosition
from usersync.testing.install import install

pytestmark = pytest.mark.newest_server

UNREACHABLE = "postgresql://postgres@127.0.0.1:1/nowhere"


@pytest.fixture
def other_store(cluster):
    """A second project: another installation on the same server."""
    database = cluster.clone(cluster.template("supabase_old"))
    install(database, with_audit_log())
    yield database
    cluster.drop(database)


def stored_in(database):
    with database.connect() as owner:
        return [str(row[0]) for row in owner.execute("select id from public.audit_logs").fetchall()]


def leave_spool_of_a_killed_process(spool_dir, dsn, count=5, **options):
    """Create the spool of a killed process: its file, without a lock."""
    log = AuditLog(dsn, spool_dir=spool_dir, **options)
    ids = [log.record("a.b") for _ in range(count)]
    log.close(0)
    return ids


def test_a_spool_is_delivered_only_to_the_database_of_its_first_delivery(
    store, other_store, make_log, spool_dir
):
    """This applies even with the same connection string, as of all local projects."""
    log = make_log(store.dsn)
    log.record("a.b")
    assert log.flush()
    log.close()
    (path,) = spool_dir.rglob("*.spool")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from delivered")
        connection.execute("delete from events")
        connection.execute("insert into events values (9, 0, ?)", (b'{"action": "of.first"}',))
        connection.execute(
            "update about set value = ? where name = 'address'",
            (destination_of(other_store.dsn(), None).address,),
        )
    other = make_log(other_store.dsn())
    result = other.drain_all(20)
    assert not result
    assert stored_in(other_store) == []
    ((named, left),) = result.left.items()
    assert (named, left.waiting) == (path, 1)
    assert "installation" in left.reason
    # The original database receives the events, although the file has another connection string.
    assert make_log(store.dsn).drain(20)
    assert [event["action"] for event in store.events()].count("of.first") == 1


def test_before_its_first_delivery_a_spool_belongs_to_its_connection_string(store, other_store, spool_dir):
    """Behind a pooler, the user name identifies the project."""
    of_first = leave_spool_of_a_killed_process(spool_dir, "postgresql://postgres.first@127.0.0.1:1/postgres")
    with AuditLog(other_store.dsn(), spool_dir=spool_dir) as log:
        assert log.drain(20)
        assert stored_in(other_store) == []
    assert len(of_first) == len(list(spool_dir.rglob("*.spool"))) * 5
    homes = [
        destination_of(f"postgresql://{user}:secret@pooler.example.com:6543/postgres{options}", None)
        for user, options in [
            ("postgres.a", ""),
            ("postgres.b", ""),
            ("postgres.a", "?options=reference%3Dc"),
        ]
    ]
    assert (
        len({destination.address for destination in homes})
        == len({destination.directory for destination in homes})
        == 3
    )
    assert "secret" not in str(homes)


@pytest.mark.slow
def test_two_projects_behind_one_host_of_the_data_api_are_distinguished(
    serve, store, other_store, make_log, spool_dir
):
    """The path of the URL identifies the project."""
    gateway, second = serve(store.database), serve(other_store)
    answers = {"/pa": gateway.answer, "/pb": second.answer}
    is_up = False

    def answer(method, path, headers, body):
        if not is_up:
            return 503, {}, b""
        return answers[path[:3]](method, path[3:], headers, body)

    gateway.answer = answer
    first_api, second_api = (DataApi(f"{gateway.url}/{path}", SECRET_KEY) for path in ("pa", "pb"))
    ids = leave_spool_of_a_killed_process(spool_dir, first_api)
    is_up = True
    with AuditLog(second_api, spool_dir=spool_dir) as log:
        own = log.record("c.d")
        assert log.drain(20)
        assert stored_in(other_store) == [own]
    with AuditLog(first_api, spool_dir=spool_dir, keep_delivered=0) as log:
        first = log.record("a.b")
        assert log.drain(20)
    assert sorted(store.ids()) == sorted([*ids, first])


def test_a_project_that_moved_is_recognized_by_its_installation_id(store, make_log, spool_dir):
    """The database has another connection string, as after a failover."""
    log = make_log(store.dsn, project=None)
    log.record("a.b")
    assert log.flush()
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    waiting = log.record("c.d")
    log.close(0)
    store.owner.execute("alter function public.gone(jsonb) rename to record_audit_events")
    parts = conninfo_to_dict(store.dsn)
    moved = store.dsn.replace(str(parts["host"]), "localhost")
    assert destination_of(moved, None).directory != destination_of(store.dsn, None).directory
    after = make_log(moved, project=None)
    assert after.drain(20)
    assert waiting in store.ids()
    assert not [path for path in spool_dir.rglob("*.spool") if has_waiting_events(path)]


def has_waiting_events(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        return file_format.look_into(connection).waiting


def test_a_restored_copy_has_the_same_id_and_is_another_database(cluster, store, make_log, spool_dir):
    log = make_log(store.dsn)
    log.record("a.b")
    assert log.flush()
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to gone")
    of_production = log.record("of.production")
    log.close(0)
    store.owner.execute("alter function public.gone(jsonb) rename to record_audit_events")
    with store.database.connect("supabase_admin") as admin:
        ((installation,),) = admin.execute("select installation from usersync.settings").fetchall()
    staging = clone_installed(cluster, with_audit_log())
    try:
        with staging.connect() as owner:
            owner.execute("update usersync.settings set installation = %s", [installation])
        assert not make_log(staging.dsn()).drain(20)
        assert of_production not in stored_in(staging)
        assert make_log(store.dsn).drain(20)
        assert of_production in store.ids()
    finally:
        cluster.drop(staging)


def test_a_running_process_does_not_send_to_another_database_at_its_address(
    store, make_log, eventually, caplog
):
    log = make_log(store.dsn)
    first = log.record("a.b")
    assert log.flush()
    with store.database.connect() as owner:
        owner.execute("update usersync.settings set installation = gen_random_uuid()")
        ids = [log.record("a.b") for _ in range(3)]
        assert not log.flush(0.5)
        assert "installation" in log.stats().last_error
        assert store.ids() == [first]
        eventually(lambda: "the connected database is another one" in caplog.text)
        owner.execute(
            "update usersync.settings set installation = %s",
            [log._engine.intake.spool.binding.origin.position.installation],
        )
    assert log.flush(30)
    assert sorted(store.ids()) == sorted([first, *ids])


def test_a_spool_of_the_old_format_is_delivered_if_its_name_is_unambiguous(store, make_log, spool_dir):
    former = old_spool_file(spool_dir / destination_of(store.dsn, None).former, "of.former")
    assert make_log(store.dsn, project=None, keep_delivered=0).drain(20)
    assert [event["action"] for event in store.events()] == ["of.former"]
    assert not former.exists()


@pytest.mark.slow
def test_events_of_a_killed_process_do_not_reach_another_project(store, other_store, spool_dir, monkeypatch):
    """Both projects have the same host, port and database name, as behind a pooler."""
    (ids,) = kill_recorders(UNREACHABLE, spool_dir, kills=1)
    with AuditLog(other_store.dsn(), spool_dir=spool_dir, project="other") as log:
        assert log.drain(20)
    assert stored_in(other_store) == []
    with AuditLog(store.dsn, spool_dir=spool_dir, project="test") as log:
        assert log.drain(20)
    assert set(ids) <= set(store.ids())


HERE = DatabasePosition("00000000-0000-4000-8000-000000000001", "7/5", "00000001")


@pytest.mark.parametrize(
    ("position", "address", "is_ours"),
    [
        (HERE, "a", True),
        (DatabasePosition(HERE.installation, "7/5", "00000002"), "moved", True),
        (DatabasePosition(HERE.installation, "8/5", "00000001"), "a", True),
        (DatabasePosition(HERE.installation, "8/5", "00000001"), "staging", False),
        (DatabasePosition(HERE.installation, "7/6", "00000001"), "staging", False),
        (DatabasePosition("00000000-0000-4000-8000-000000000002", "7/5", "00000001"), "a", False),
    ],
    ids=["same", "failover", "upgraded", "restored copy", "copy in the same cluster", "another"],
)
def test_a_database_is_recognized_by_its_id_and_its_address_or_cluster(position, address, is_ours):
    assert belongs(Origin(Destination("a"), HERE), Destination(address), position) is is_ours


@pytest.mark.parametrize(
    ("theirs", "ours", "directory", "is_ours"),
    [
        (Destination("a"), Destination("a"), "x", True),
        (Destination("a"), Destination("b"), "x", False),
        (Destination("a", "p"), Destination("b", "p"), "p", True),
        (Destination("a", "p"), Destination("b", "q"), "p", False),
        (Destination(None, "p"), Destination("b", "p"), "p", True),
        (Destination(None), Destination("b", None, "unassigned"), "unassigned", True),
        (Destination(None), Destination("b", None, "b"), "unassigned", False),
    ],
)
def test_a_spool_without_a_delivery_is_recognized_by_its_connection_string(theirs, ours, directory, is_ours):
    assert is_expected(Origin(theirs), ours, directory) is is_ours


@pytest.mark.parametrize(
    ("dsn", "target"),
    [
        ("postgresql://postgres.abc:x@pooler:6543/postgres", "postgres.abc@pooler:6543/postgres"),
        ("postgresql://postgres:x@pooler:6543/postgres?options=reference%3Dabc", "abc@pooler:6543/postgres"),
        ("postgresql://postgres:x@db.abc.supabase.co:5432/postgres", "db.abc.supabase.co:5432/postgres"),
    ],
)
def test_a_target_behind_a_pooler_is_shown_with_its_project(dsn, target):
    assert describe_target(dsn) == target
