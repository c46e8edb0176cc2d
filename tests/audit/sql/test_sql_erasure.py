"""Erasure removes a deleted user's personal data everywhere and keeps the facts of events.

Only the owner can erase.
"""

from __future__ import annotations

import json
import threading
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sql_log import HOSTILE_TABLE, event, send

from audit_settings import with_audit_log
from fixtures_project import NAMES
from postgrest_server import SECRET_KEY
from usersync import DataApi, UserSync
from usersync.audit import erasure
from usersync.config.personal_data import PERSONAL, erase_keys, words_of
from usersync.errors import (
    ConflictError,
    DatabaseError,
    NeedsDatabaseError,
    SettingsError,
    UserNotFoundError,
    UserStillExistsError,
)
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

UNKNOWN_USER = UUID(int=9)
FACTS = (
    "id",
    "occurred_at",
    "recorded_at",
    "action",
    "outcome",
    "actor_id",
    "actor_type",
    "entity_type",
    "entity_id",
)


@pytest.fixture
def extra(request):
    return getattr(request, "param", {})


@pytest.fixture
def settings(names, extra):
    hostile = HOSTILE_TABLE if names == "hostile" else {}
    return with_audit_log(NAMES[names][0] | hostile | extra)


@pytest.fixture
def user(project):
    return project.auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})


def event_of(user, **fields):
    """An event with personal data in every field."""
    personal = {
        "ip": "192.0.2.1",
        "user_agent": "Mozilla",
        "changes": {"email": ["ada@example.com", None], "stock": [1, 2]},
        "metadata": {"deep": [{"userPhone": 15550001, "client-ip": "192.0.2.1", "description": "kept"}]},
    }
    return event(**personal | {"actor_id": str(user)} | fields)


def contents(project):
    """The contents of the application's and usersync's tables, as text."""
    tables = [
        project.users,
        project.settings.audit_table.quoted,
        "usersync.sync_failures",
        "usersync.audit_rejects",
    ]
    rows = [
        project.owner.execute("select each::text from {} as each".format(table)).fetchall()  # noqa: UP032
        for table in tables
    ]
    return json.dumps(rows)


def test_facts_stay_and_personal_data_is_erased(log, project, user):
    other = project.auth.sign_up_email("eve@example.com")
    chosen = event_of(user)
    log.record(
        chosen,
        event_of(user, actor_id=str(user).upper()),
        event_of(user, actor_id="admin", actor_type="service", user_id=str(user)),
        event_of(
            user, actor_id=None, entity_type="user", entity_id=str(user), changes={"full_name": ["Ada", "A"]}
        ),
        event_of(other, changes=None, metadata={"email": "eve@example.com"}),
    )
    project.auth.hard_delete(user)
    before = log.rows()
    dry = project.client.erase(user, dry_run=True)
    assert (dry.events, dry.recorded) == (4, False)
    assert log.rows() == before
    done = project.client.erase(user)
    assert (done.events, done.recorded) == (4, True)
    assert "ada@example.com" not in contents(project)
    after = {row["id"]: row for row in log.rows()}
    for row in before:
        assert {name: after[row["id"]][name] for name in FACTS} == {name: row[name] for name in FACTS}
    theirs = [row for row in after.values() if row["actor_id"] == str(other)]
    assert (str(theirs[0]["ip"]), theirs[0]["metadata"]) == ("192.0.2.1", {"email": "eve@example.com"})
    first = after[UUID(chosen["id"])]
    assert (first["ip"], first["user_agent"]) == (None, None)
    assert first["changes"] == {"email": ["[erased]", None], "stock": [1, 2]}
    assert first["metadata"] == {
        "deep": [{"userPhone": "[erased]", "client-ip": "[erased]", "description": "kept"}]
    }
    (own,) = [row for row in after.values() if row["action"] == "user.erased"]
    assert (own["entity_type"], own["entity_id"], own["user_id"]) == ("user", str(user), None)
    again = project.client.erase(user)
    assert (again.anything, again.recorded) == (False, False)


def test_an_existing_user_and_an_unknown_user_are_refused(log, project, user):
    log.record(event_of(user))
    before = contents(project)
    with pytest.raises(UserStillExistsError, match="still exists") as caught:
        project.client.erase(user)
    assert "soft delete is enough" in caught.value.hint
    with pytest.raises(UserNotFoundError, match=str(UNKNOWN_USER)):
        project.client.erase(UNKNOWN_USER)
    assert contents(project) == before


def test_a_user_who_signs_up_again_is_a_new_user(log, project, user):
    log.record(event_of(user))
    project.auth.hard_delete(user)
    project.client.erase(user)
    again = project.auth.sign_up_email("ada@example.com")
    log.record(event_of(again))
    assert (project.row(again)["email"], project.row(user)["email"]) == ("ada@example.com", None)
    assert project.client.erase(user).anything is False
    assert [str(row["ip"]) for row in log.rows() if row["actor_id"] == str(again)] == ["192.0.2.1"]


POLICIES = [{"on_delete": policy} for policy in ("anonymize", "soft", "keep", "delete")]


@pytest.mark.parametrize("extra", POLICIES, indirect=True, ids=lambda each: each["on_delete"])
@pytest.mark.parametrize("shape", ["hard_delete", "soft_delete"])
def test_the_users_row_is_erased_as_on_delete_says(log, project, user, shape, extra):
    log.record(event_of(user))
    getattr(project.auth, shape)(user)
    dry = project.client.erase(user, dry_run=True)
    erased = project.client.erase(user)
    row = project.row(user)
    if extra["on_delete"] == "delete":
        assert row is None
    else:
        assert (row["email"], row["full_name"]) == (None, None)
        assert row["deleted_at"] is not None
    assert erased.row is (extra["on_delete"] in {"soft", "keep"})
    assert dry.row is erased.row
    assert "ada@example.com" not in contents(project)
    project.client.reconcile()
    assert "ada@example.com" not in contents(project)
    assert project.client.erase(user).anything is False


@pytest.mark.parametrize("extra", POLICIES[3:], indirect=True, ids=["delete"])
def test_a_row_that_must_not_be_deleted_is_anonymized(log, project, user):
    project.owner.execute(f"create table notes (owner uuid references {project.users})")
    project.owner.execute("insert into notes values (%s)", [user])
    project.auth.hard_delete(user)
    assert project.row(user)["email"] == "ada@example.com"
    assert project.client.erase(user).row is True
    assert (project.row(user)["email"], project.row(user)["full_name"]) == (None, None)


@pytest.mark.parametrize("extra", POLICIES[3:], indirect=True, ids=["delete"])
def test_a_remaining_row_is_deleted_after_its_events_are_erased(log, project, user, delete_without_triggers):
    """An event that is recognized only by its user_id is found before user_id is emptied."""
    log.record(event_of(None, actor_id=None, user_id=str(user)))
    delete_without_triggers(user)
    assert project.client.erase(user).events == 1
    assert project.row(user) is None
    assert "ada@example.com" not in contents(project)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{"source_table": "usersync.auth_users"}], indirect=True, ids=["copy"])
def test_the_copy_of_the_auth_servers_row_is_erased(log, project, extra):
    user = uuid4()
    project.owner.execute(
        "insert into usersync.auth_users (id, email, raw_user_meta_data, created_at) "
        "values (%s, 'ada@example.com', '{\"full_name\": \"Ada\"}', now())",
        [user],
    )
    with pytest.raises(UserStillExistsError):
        project.client.erase(user)
    project.owner.execute("update usersync.auth_users set deleted_at = now()")
    assert project.client.erase(user, dry_run=True).copied is True
    assert project.client.erase(user).copied is True
    copy = project.owner.execute(
        "select email, raw_user_meta_data, deleted_at is null from usersync.auth_users"
    )
    assert copy.fetchone() == (None, None, False)
    assert project.client.erase(user).copied is False


def test_rejected_events_and_sync_failures_are_erased(log, project, user):
    assert log.record(
        event(id="none", actor_id=str(user), ip="x", metadata={"email": "ada@example.com"})
    ) == (0, 0, 1)
    assert log.record(event(id="none", metadata={"email": "eve@example.com"})) == (0, 0, 1)
    project.auth.hard_delete(user)
    project.owner.execute(
        "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
        "values (%s, 'degraded', '23514', 'ada@example.com is refused')",
        [user],
    )
    done = project.client.erase(user)
    assert done.rejects == 1
    assert "ada@example.com" not in contents(project)
    assert "eve@example.com" in contents(project)
    (kept,) = [
        row[0]
        for row in project.owner.execute("select event from usersync.audit_rejects").fetchall()
        if row[0].get("actor_id") == str(user)
    ]
    assert kept["metadata"] == {"email": "[erased]"}
    assert "ip" not in kept


def test_events_of_users_with_values_are_erased_in_the_log_and_in_rejects(log, project):
    project.owner.execute("select usersync.request_user_events('test', true, true)")
    user = project.auth.sign_up_email("grace@example.com")
    table = project.settings.audit_table.quoted
    project.owner.execute(f"alter table {table} add constraint rule check (false) not valid")
    project.auth.change_email(user, "hopper@example.com")
    project.auth.hard_delete(user)
    project.owner.execute(f"alter table {table} drop constraint rule")
    assert all(address in contents(project) for address in ("grace@example.com", "hopper@example.com"))
    project.client.erase(user)
    assert not any(address in contents(project) for address in ("grace@", "hopper@"))
    project.client.retry()
    query = f"select action from {table.replace('%', '%%')} where entity_id = %s"
    found = project.owner.execute(query, [str(user)]).fetchall()
    assert {"user.created", "user.updated", "user.deleted"} <= {action for (action,) in found}
    assert not any(address in contents(project) for address in ("grace@", "hopper@"))


def test_an_event_without_its_user_id_is_erased(log, project, user):
    project.auth.hard_delete(user)
    project.owner.execute(f"delete from {project.users}")
    log.record(event_of(None, actor_id=None, user_id=str(user)))
    assert log.row()["metadata"]["original_user_id"] == str(user)
    assert project.client.erase(user).events == 1
    assert log.rows()[0]["ip"] is None or log.rows()[1]["ip"] is None


@pytest.mark.slow
def test_an_interrupted_erasure_can_be_repeated(log, project, user, monkeypatch):
    """Each page is committed separately. A repeated run erases the rest."""
    monkeypatch.setattr(erasure, "PAGE_BLOCKS", 1)
    log.record(*[event_of(user) for _ in range(400)])
    project.auth.hard_delete(user)
    pages = []

    def stop(done, total):
        pages.append((done, total))
        if sum(1 for row in log.rows() if row["ip"] is None) > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(erasure.erase(user, on_progress=stop), project.owner)
    left = sum(row["ip"] is not None for row in log.rows())
    assert 0 < left < 400
    assert not [row for row in log.rows() if row["action"] == "user.erased"]
    done = project.client.erase(user)
    assert (done.events, done.recorded) == (left, True)
    assert not [row for row in log.rows() if row["ip"]]


def test_events_recorded_during_the_erasure_are_erased_by_a_second_run(
    log, session, project, user, monkeypatch
):
    monkeypatch.setattr(erasure, "PAGE_BLOCKS", 1)
    log.record(*[event_of(user) for _ in range(100)])
    project.auth.hard_delete(user)
    other = session()
    coming = iter([True] * 3)

    def meanwhile(*_):
        if next(coming, False):
            send(other, *[event_of(user) for _ in range(20)])

    run(erasure.erase(user, on_progress=meanwhile), project.owner)
    project.client.erase(user)
    assert not [row for row in log.rows() if row["ip"]]
    assert len(log.rows()) == 161


def test_two_concurrent_erasures_and_a_sync_succeed(log, project, user):
    log.record(*[event_of(user) for _ in range(200)])
    project.auth.hard_delete(user)
    problems = []

    def guarded(work):
        try:
            with project.database.connect("postgres") as connection:
                work(connection)
        except Exception as error:  # noqa: BLE001 - the test reports any error
            problems.append(error)

    works = [lambda c: run(erasure.erase(user), c)] * 2 + [lambda _: project.client.reconcile()]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert not [row for row in log.rows() if row["ip"]]
    assert project.row(user)["email"] is None


def test_only_the_owner_can_erase(log, project, user):
    log.record(event_of(user))
    project.auth.hard_delete(user)
    table = project.settings.audit_table.quoted
    for role in ("service_role", "authenticated", "anon"):
        with project.database.connect(role) as connection:
            connection.execute("select set_config('usersync.maintaining', 'audit', false)")
            for attempt in (
                f"update {table} set ip = null where true",
                "select usersync.erase_keys('{}', '{}')",
                "update usersync.audit_rejects set event = '{}' where true",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(attempt)
            for operation in ("erase", "erase_events", "erase_keys"):
                with pytest.raises(psycopg.Error):
                    connection.execute(
                        "select public.usersync(%s, %s)", [operation, Jsonb({"user_id": str(user)})]
                    )
            with pytest.raises(DatabaseError):
                run(erasure.erase(user), connection)
    # Afterwards the log is append-only again, also for its owner.
    project.client.erase(user)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        project.owner.execute(f"update {table} set ip = '192.0.2.9' where true")


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{"audit": {"personal": ["iban"]}}], indirect=True, ids=["words"])
def test_personal_keys_in_the_settings_are_erased(log, project, user):
    log.record(event_of(user, metadata={"bankIBAN": "DE00", "phone": "15550001"}, changes=None))
    project.auth.hard_delete(user)
    project.client.erase(user)
    row = log.rows()[0]
    assert row["metadata"] == {"bankIBAN": "[erased]", "phone": "15550001"}
    assert row["ip"] is None


@pytest.mark.parametrize("words", ["email", [1], [""], ["--"], ["x" * 101]])
def test_invalid_personal_keys_are_refused(words):
    with pytest.raises(SettingsError, match=r"audit\.personal"):
        with_audit_log({"audit": {"personal": words}})


def deep(levels):
    found = {"email": "a@b"}
    for _ in range(levels):
        found = {"a": [found]}
    return found


DOCUMENTS = [
    {
        "email": "a@b",
        "Email": "a@b",
        "userEmail": "a@b",
        "EMAILS": ["a@b"],
        "e-mail": "a@b",
        "mailbox": "kept",
    },
    {"ip": 1, "IPAddress": "x", "clientIp": "x", "description": "zip ship", "zip": 5, "ip2": "kept"},
    {
        "email": {"old": "a@b", "new": None},
        "emails": [["a@b", None, True, 1.5], {"x": 1}],
        "email_confirmed": True,
    },
    {
        "größe.email": "x",
        "élan email": "x",
        "ÉMAIL": "kept",
        "почта": "kept",
        "": "kept",
        "_": 1,
        "a\nphone\t": "x",
    },
    {"phone": []},
    {"phone": {}},
    "text",
    None,
    [{"phone": "1"}, 5, "phone"],
    deep(10),
    deep(40),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_the_database_and_the_spool_erase_the_same_keys(postgres, install_keys, document):
    words = words_of(PERSONAL)
    row = postgres.execute("select usersync.erase_keys(%s, %s)", [Jsonb(document), words]).fetchone()
    here = erase_keys(document, words)
    assert row[0] == here
    assert erase_keys(here, words) == here
    assert "a@b" not in json.dumps(here)


@pytest.fixture
def install_keys(database):
    install(database, with_audit_log())


def test_data_without_personal_keys_is_unchanged():
    words = words_of(PERSONAL)
    assert erase_keys(DOCUMENTS[0], words)["mailbox"] == "kept"
    assert erase_keys(DOCUMENTS[1], words)["description"] == "zip ship"
    assert erase_keys(DOCUMENTS[2], words) == {
        "email": "[erased]",
        "emails": [["[erased]", None, True, "[erased]"], "[erased]"],
        "email_confirmed": True,
    }


def mapping(details):
    columns = {
        "id": "event_id",
        "user_id": "who",
        "action": "action",
        "entity_id": "record_id",
        "metadata": {"column": "details", "type": details},
        "ip": {"column": "ip_address", "type": "text"},
    }
    return with_audit_log({"audit": {"table": "public.my_log", "columns": columns}})


@pytest.fixture
def mapped(cluster):
    database = cluster.clone(cluster.template("supabase_old", regime="old"))

    def prepare(details):
        with database.connect("postgres") as owner:
            owner.execute(
                "create table public.my_log (event_id uuid primary key, who uuid, action text, "
                f"record_id text, details {details}, ip_address text)"
            )
        install(database, mapping(details))
        return database, GoTrue(database.dsn("supabase_auth_admin"))

    yield prepare
    cluster.drop(database)


@pytest.mark.parametrize("details", ["json", "jsonb"])
def test_events_in_an_applications_own_audit_table_are_erased(mapped, details):
    database, auth = mapped(details)
    with auth, database.connect("postgres") as owner:
        user = auth.sign_up_email("ada@example.com")
        send(owner, event_of(user), event_of(uuid4()))
        auth.hard_delete(user)
        done = run(erasure.erase(user), owner)
        assert (done.events, done.recorded) == (1, True)
        with owner.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute("select * from public.my_log").fetchall()
        (row,) = [row for row in rows if row["details"].get("actor_id") == str(user)]
        assert row["ip_address"] is None
        assert row["details"]["user_agent"] == "[erased]"
        assert row["details"]["changes"]["email"] == ["[erased]", None]
        assert sum(row["ip_address"] is not None for row in rows) == 1
        assert not run(erasure.erase(user), owner).anything


def test_a_duplicate_key_in_json_is_erased(mapped):
    database, auth = mapped("json")
    with auth, database.connect("postgres") as owner:
        user = auth.sign_up_email("ada@example.com")
        auth.hard_delete(user)
        details = f'{{"actor_id": "{user}", "changes": {{"email": "ada@example.com", "email": null}}}}'
        owner.execute("insert into public.my_log values (gen_random_uuid(), null, 'x', null, %s)", [details])
        assert run(erasure.erase(user), owner).events == 1
        assert "ada@" not in str(owner.execute("select array_agg(details::text) from my_log").fetchone())
        assert not run(erasure.erase(user), owner).anything


def test_a_column_of_another_type_is_refused_with_the_reason(mapped):
    database, auth = mapped("text")
    with auth, database.connect("postgres") as owner:
        user = auth.sign_up_email("ada@example.com")
        auth.hard_delete(user)
        with pytest.raises(ConflictError, match="column details, of type text"):
            run(erasure.erase(user), owner)


def test_erasing_over_the_data_api_is_refused(user):
    with (
        UserSync(DataApi("https://abcdefghijklmnopqrst.supabase.co", SECRET_KEY)) as client,
        pytest.raises(NeedsDatabaseError),
    ):
        client.erase(user)
