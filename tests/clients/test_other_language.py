"""A server with German messages: usersync decides by SQLSTATE, and never by the text of a message."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync import AuditLog, UserSync
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.errors import (
    BusyError,
    ColumnMissingError,
    ConnectionFailedError,
    DatabaseError,
    NotInstalledError,
)
from usersync.schema import installation
from usersync.schema.trial.faults import fault_of
from usersync.testing import GoTrue
from usersync.transports.run import run
from waiting import until

#: These tests start another server.
pytestmark = pytest.mark.slow


@pytest.fixture
def empty_database(german_cluster):
    database = german_cluster.clone(german_cluster.template("supabase_old", regime="old"))
    yield database
    german_cluster.drop(database)


@pytest.fixture
def database(german_cluster):
    database = clone_installed(german_cluster, with_audit_log())
    yield database
    german_cluster.drop(database)


@pytest.fixture
def owner(database):
    with database.connect() as owner:
        yield owner


@pytest.fixture
def auth(database):
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        yield auth


@pytest.fixture
def client(database):
    with UserSync(database.dsn()) as client:
        yield client


def sign_up_without_rows(database, auth, count):
    users = [auth.sign_up_email(f"{number}@example.com") for number in range(count)]
    with database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica; delete from public.users")
    return users


def slow_writes(owner, seconds):
    owner.execute(
        f"""
        create function public.slow() returns trigger language plpgsql as
        $$ begin perform pg_sleep({seconds}); return new; end $$;
        create trigger slow before insert on public.users for each row execute function public.slow()
        """
    )


def cancel_when_busy(database, cancelled):
    """Cancel the client's statement, as an administrator does, once it sleeps in a trigger."""
    with database.connect() as other:
        cancel = (
            "select pg_cancel_backend(pid) from pg_stat_activity "
            "where application_name = 'usersync' and wait_event = 'PgSleep' and datname = current_database()"
        )
        until(lambda: other.execute(cancel).rowcount)
    cancelled.set()


def test_the_messages_of_the_server_are_german(owner):
    with pytest.raises(psycopg.errors.UndefinedTable, match="existiert nicht"):
        owner.execute("select from nowhere")


def test_a_page_that_exceeds_the_statement_timeout_is_halved(database, owner, auth):
    sign_up_without_rows(database, auth, 8)
    slow_writes(owner, 0.3)
    owner.execute(f"alter role postgres in database {database.name} set statement_timeout = '2s'")
    with UserSync(database.dsn()) as client:
        result = client.reconcile(page_size=8)
    assert (result.counts.missing, result.counts.failed) == (8, 0)


@pytest.mark.parametrize("limit", ["0", "60s"])
def test_a_statement_that_an_administrator_cancels_is_not_tried_again(database, owner, auth, limit):
    sign_up_without_rows(database, auth, 8)
    slow_writes(owner, 30)
    owner.execute(f"alter role postgres in database {database.name} set statement_timeout = '{limit}'")
    cancelled = threading.Event()
    other = threading.Thread(target=cancel_when_busy, args=(database, cancelled))
    other.start()
    with UserSync(database.dsn()) as client, pytest.raises(DatabaseError) as caught:
        client.reconcile(page_size=8)
    other.join()
    assert cancelled.is_set()
    assert caught.value.sqlstate == "57014"


def test_errors_have_the_same_classes(empty_database, database, owner, client, auth):
    with UserSync(empty_database.dsn()) as nothing, pytest.raises(NotInstalledError):
        nothing.status()
    with (
        UserSync(empty_database.dsn().replace(empty_database.name, "nowhere")) as refused,
        pytest.raises(ConnectionFailedError),
    ):
        refused.status()
    with owner.transaction(), UserSync(database.dsn()) as waiting:
        owner.execute("lock table usersync.sync_failures in access exclusive mode")
        with pytest.raises(BusyError):
            waiting.failures()
    owner.execute("alter table public.users rename column email to elsewhere")
    with pytest.raises(ColumnMissingError, match="has no column email, which"):
        client.status()


def test_sync_failures_have_their_sqlstate_constraint_and_column(owner, auth, client):
    owner.execute("alter table public.users add constraint no_ada check (email not like 'ada%')")
    owner.execute("alter table public.users alter column phone type varchar(3)")
    ada, bob = auth.sign_up_email("ada@example.com"), auth.sign_up_phone("+15550100")
    failures = {each.user_id: each for each in client.failures()}
    assert failures[ada].sqlstate == "23514"
    assert failures[ada].constraint == "no_ada"
    assert (failures[bob].sqlstate, failures[bob].column) == ("22001", "phone")
    owner.execute("alter table public.users drop constraint no_ada")
    client.retry()
    assert {each.user_id for each in client.failures()} == {bob}


def test_events_are_stored_and_rejected(database, owner, auth, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "usersync.audit")
    user = auth.sign_up_email("ada@example.com")
    owner.execute("alter table public.audit_logs add constraint no_bolts check (entity_id <> 'bolt')")
    with AuditLog(database.dsn(), spool_dir=tmp_path, project="test") as audit:
        audit.record("product.created", user_id=user)
        audit.record("product.created", entity=("product", "bolt"))
        assert audit.flush(30)
        stats = audit.stats()
    assert (stats.stored, stats.rejected) == (1, 1)
    assert "verletzt Check-Constraint" in caplog.text
    # record() sends no such value.
    event = '[{"action": "product.created", "user_id": "ada@example.com"}]'
    (answer,) = owner.execute("select public.record_audit_events(%s)", [event]).fetchone()
    assert "ungültige Eingabesyntax" in answer["rejects"][0]["reason"]
    rejects = owner.execute("select sqlstate from usersync.audit_rejects order by 1").fetchall()
    assert rejects == [("22P02",), ("23514",)]
    assert owner.execute("select count(*) from public.audit_logs where user_id = %s", [user]).fetchone() == (
        1,
    )


def test_a_tracked_money_value_is_the_same_in_any_locale(owner):
    owner.execute("create table public.prices (id int primary key, price money)")
    run(tracking.track(with_audit_log(), "prices", TrackOptions(), Redactor().is_secret), owner)
    shown = set()
    for locale in ("de_DE.UTF-8", "C"):
        owner.execute(f"set lc_monetary = '{locale}'")
        owner.execute("insert into public.prices values (1, 1234.5::numeric::money)")
        shown |= set(owner.execute("select price::text from public.prices").fetchall())
        owner.execute("delete from public.prices")
    assert len(shown) == 2
    changes = "select changes -> 'price' from public.audit_logs where action = 'prices.inserted'"
    first, second = owner.execute(changes).fetchall()
    assert first == second


def test_the_function_that_raised_and_its_trigger_are_found(owner):
    owner.execute(
        """
        create function public.refuse(text) returns void language plpgsql as $$ begin raise 'no'; end $$;
        create function public.ask() returns trigger language plpgsql as
        $$ begin perform public.refuse('x'); return new; end $$;
        create trigger asks before insert on public.users for each row execute function public.ask()
        """
    )
    with pytest.raises(psycopg.Error) as caught:
        owner.execute("insert into public.users (id) values (gen_random_uuid())")
    fault = run(fault_of(caught.value), owner)
    assert (fault.raised_in, fault.trigger) == ("refuse(text)", "asks on users")


def test_installing_again_changes_nothing(owner):
    assert run(installation.plan(with_audit_log()), owner).changes == ()
