"""A copy of the database does not send the events of production, and takes none out of its stream."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet
from ingesting import ENVELOPES, record, stored, wait_empty, wait_for_stream, wait_stored
from psycopg.conninfo import make_conninfo
from working import Working, wait_for

from audit_settings import with_audit_log
from event_receivers import BackgroundReceiver, answer
from fixtures_project import clone_installed
from usersync import Handlers, metrics
from usersync.audit.delivery.sender import Sender
from usersync.audit.spool.binding import WrongDatabaseError
from usersync.cli.main import run as run_command
from usersync.config.database_address import certainty
from usersync.config.dsn import database_address
from usersync.core import users
from usersync.core.home import Home
from usersync.core.position import DatabasePosition
from usersync.doctor.checks import d038_subscriptions
from usersync.errors import DatabaseError
from usersync.events import subscriptions
from usersync.events.homes import check_homes
from usersync.events.models import Subscription
from usersync.events.secret_box import KEY_VARIABLE
from usersync.schema import installation
from usersync.sql.render import read_sql
from usersync.transports.jetstream.stream import ADDRESS, POSITION
from usersync.transports.run import run
from usersync.worker import ingest

pytestmark = [pytest.mark.newest_server, pytest.mark.usefixtures("own_spools")]

ABC, XYZ = "abcdefghijklmnopqrst", "zyxwvutsrqponmlkjihg"
POOLER = "aws-0-eu-west-1.pooler.supabase.com"


@pytest.mark.parametrize(
    ("dsn", "address", "how_certain"),
    [
        (f"postgresql://postgres:secret@db.{ABC}.supabase.co:5432/postgres", f"project {ABC}", 2),
        (f"postgresql://postgres@DB.{ABC}.Supabase.co.:6543/postgres?sslmode=require", f"project {ABC}", 2),
        (f"postgresql://postgres.{ABC}:secret@{POOLER}:6543/postgres", f"project {ABC}", 2),
        (f"host={POOLER} options=reference={ABC} user=x dbname=postgres", f"project {ABC}", 2),
        (f"postgresql://postgres.{ABC}@{POOLER}/staging", f"project {ABC}/staging", 2),
        (f"postgresql://postgres@db.{ABC}.supabase.co/staging", f"project {ABC}/staging", 2),
        ("postgresql://me:secret@DB.shop.Example/app", "db.shop.example:5432/app", 1),
        ("postgresql+asyncpg://me@db.shop.example:6432/app", "db.shop.example:6432/app", 1),
        ("postgresql://b.shop.example:1,a.shop.example:2/app", "a.shop.example:2,b.shop.example:1/app", 1),
        ("postgresql://b.shop.example,db/app", "b.shop.example:5432,db:5432/app", 0),
        ("postgresql://postgres.acme@pooler.shop.example/app", "acme@pooler.shop.example:5432/app", 1),
        ("postgresql://[2606:4700::1]:5432/app", "[2606:4700::1]:5432/app", 1),
        ("postgresql://10.0.0.5/app", "10.0.0.5:5432/app", 0),
        ("postgresql://db/app", "db:5432/app", 0),
        ("postgresql://postgres.production/app", "postgres.production:5432/app", 0),
        ("postgresql://db.production.svc.cluster.local/app", "db.production.svc.cluster.local:5432/app", 0),
        ("host=/run/postgresql dbname=app port=5433", "/run/postgresql:5433/app", 0),
        ("hostaddr=10.0.0.5 dbname=app", "10.0.0.5:5432/app", 0),
        ("user=me", "localhost:5432/me", 0),
    ],
)  # fmt: skip
def test_the_address_of_a_database_has_no_login(dsn, address, how_certain, monkeypatch):
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGOPTIONS"):
        monkeypatch.delenv(variable, raising=False)
    assert (database_address(dsn), certainty(address)) == (address, how_certain)


def test_the_environment_completes_a_connection_string(monkeypatch):
    monkeypatch.setenv("PGHOST", "db.shop.example")
    monkeypatch.setenv("PGDATABASE", "app")
    assert database_address("user=me") == "db.shop.example:5432/app"


ABC_PROJECT, XYZ_PROJECT = f"project {ABC}", f"project {XYZ}"
PUBLIC, OTHER, PRIVATE = "db.shop.example:5432/app", "pooler.shop.example:6432/app", "db:5432/app"


@pytest.mark.parametrize(
    ("home", "here", "is_home"),
    [
        (Home(), Home("1/1", PRIVATE), True),
        (Home("1/1"), Home("1/1", XYZ_PROJECT), True),
        (Home("1/1"), Home("2/1", XYZ_PROJECT), False),
        (Home("1/1", ABC_PROJECT), Home("1/1", XYZ_PROJECT), False),
        (Home("1/1", ABC_PROJECT), Home("1/2", f"{ABC_PROJECT}/staging"), False),
        (Home("1/1", ABC_PROJECT), Home("2/1", ABC_PROJECT), True),
        (Home("1/1", ABC_PROJECT), Home("1/1", PUBLIC), True),
        (Home("1/1", PUBLIC), Home("1/1", OTHER), True),
        (Home("1/1", PUBLIC), Home("2/1", PUBLIC), True),
        (Home("1/1", PUBLIC), Home("2/1", OTHER), False),
        (Home("1/1", PRIVATE), Home("1/2", PRIVATE), False),
    ],
)
def test_a_database_is_recognized_by_cluster_and_address(home, here, is_home):
    assert home.is_at(here) == is_home


def add(name="crm", kind="webhook"):
    return subscriptions.add(Subscription(name, kind, ("a.*",)))


def homes(working):
    statement = "select state, home_cluster, home_address from usersync.subscriptions"
    return working.owner.execute(statement).fetchone()


def test_workers_with_several_addresses_share_a_home(working):
    run(add(), working.owner)
    _, cluster, none = homes(working)
    assert none is None

    def check(address, known=()):
        found = run(check_homes(address, known), working.owner)
        return sorted(found.here), homes(working)[2]

    assert check(PRIVATE) == (["crm"], PRIVATE)
    # A worker that starts writes its address. A running one writes only a more certain one.
    assert check("localhost:5432/app") == (["crm"], "localhost:5432/app")
    assert check(PRIVATE, {"crm"}) == (["crm"], "localhost:5432/app")
    assert check(PUBLIC, {"crm"}) == (["crm"], PUBLIC)
    row = "select xmin, * from usersync.subscriptions"
    written = working.owner.execute(row).fetchone()
    for address in (PRIVATE, OTHER, PUBLIC, "localhost:5432/app"):
        assert check(address, {"crm"}) == (["crm"], PUBLIC)
    assert check(PRIVATE) == (["crm"], PUBLIC)
    assert working.owner.execute(row).fetchone() == written

    # A major upgrade, or a restore under the same name.
    working.owner.execute("update usersync.subscriptions set home_cluster = '1/1'")
    assert check(PUBLIC, {"crm"}) == (["crm"], PUBLIC)
    assert homes(working) == ("active", cluster, PUBLIC)
    # A paused subscription of another database stays paused.
    working.owner.execute("update usersync.subscriptions set home_cluster = '1/1', state = 'paused'")
    assert check(OTHER) == ([], PUBLIC)
    assert homes(working)[0] == "paused"
    # If a worker finds that the database is the home after all, the subscription is no longer held.
    assert working.resume("crm")
    assert check(OTHER) == ([], PUBLIC)
    assert homes(working)[0] == "held"
    assert "This is the database pooler.shop.example:6432/app: a copy" in working.status("crm").reason
    assert check(PUBLIC) == (["crm"], PUBLIC)
    assert homes(working) == ("active", cluster, PUBLIC)
    assert working.status("crm").reason is None

    # Before a worker has run: a move that a script confirms.
    assert not working.resume("crm")
    working.owner.execute("update usersync.subscriptions set home_cluster = '1/1'")
    assert working.resume("crm")
    assert homes(working) == ("active", cluster, None)


def test_a_physical_copy_on_supabase_is_held(working, monkeypatch, caplog):
    """It has the same cluster, and another project."""
    monkeypatch.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
    run(add(), working.owner)
    home, here = (f"project {each}/{working.project.database.name}" for each in (ABC, XYZ))

    def worker(project):
        dsn = make_conninfo(working.dsn, host=f"db.{project}.supabase.co", hostaddr="127.0.0.1")
        stack.enter_context(working.worker(dsn=dsn))

    with ExitStack() as stack:
        worker(ABC)
        wait_for(lambda: homes(working)[2] == home, "the home")
        wait_for(lambda: working.leased("crm") == 16, "the leases")
    with ExitStack() as stack:
        worker(XYZ)
        wait_for(lambda: working.status("crm").state == "held", "the subscription to be held")
    assert homes(working)[2] == home
    reason = (
        f"it belongs to the database of {home}. This is the database of {here}: a copy, or production has "
        "moved. Its events wait. If this database replaces the other one: usersync subscriptions resume crm"
    )
    assert working.status("crm").reason == reason
    assert f"crm is held: {reason}" in caplog.messages


@contextmanager
def at(database):
    with database.connect() as owner:
        yield Working(SimpleNamespace(owner=owner, database=database))


@pytest.fixture
def production(cluster):
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


@pytest.fixture
def copied(cluster, production):
    """A function that copies the database of production, with the same installation id."""
    copies = []

    def copy():
        # A database with a session cannot be copied. The server ends a session a moment after its client.
        sessions = "select from pg_stat_activity where datname = %s and backend_type = 'client backend'"
        wait_for(
            lambda: not cluster.maintenance.execute(sessions, [production.name]).rowcount, "the last session"
        )
        copies.append(cluster.clone(production))
        return copies[-1]

    yield copy
    for each in copies:
        cluster.drop(each)


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def call(database, *arguments):
        code = run_command(["subscriptions", *arguments, "--dsn", database.dsn()])
        found = capsys.readouterr()
        return code, " ".join((found.out + found.err).split())

    return call


@pytest.mark.slow
def test_a_copy_sends_nothing_until_it_replaces_production(production, copied, command, monkeypatch, caplog):
    monkeypatch.setenv(KEY_VARIABLE, Fernet.generate_key().decode())
    handlers = Handlers()
    handlers.on("a.*", name="own")(lambda _: None)
    with BackgroundReceiver([answer()]) as receiver:

        def received():
            return [each.headers["webhook-id"] for each in receiver.requests]

        with at(production) as working:
            arguments = ("--webhook", receiver.url, "--on", "a.*", "--allow-private")
            assert command(production, "add", "crm", *arguments)[0] == 0
            working.register(handlers)
            sent = working.record(1)
            with working.worker():
                working.wait_done("crm")
                assert received() == sent
            waiting = working.record(*[1] * 20)
        copy = copied()
        with at(copy) as working, working.worker(handlers) as worker:
            assert isinstance(worker.held, tuple)
            wait_for(lambda: working.status("crm").state == "held", "the subscription to be held")
            # The worker does its other work.
            working.wait_done("own")
            wait_for(lambda: worker.readiness_problem() is None, "the worker to be ready")
            assert worker.held == ("crm",)
            code, listed = command(copy, "list")
            theirs, ours = (f"127.0.0.1:{each.port}/{each.name}" for each in (production, copy))
            reason = f"crm is held: it belongs to the database {theirs}. This is the database {ours}: a copy"
            assert (code, reason in listed) == (1, True)
            assert caplog.text.count("crm is held") == 1
            status = working.status("crm")
            assert status.home_address == theirs
            found = {each.definition.name: each.value for each in metrics.of_subscriptions([status])}
            assert found["usersync_subscription_workers"] == 0
            assert found["usersync_subscription_lag_events"] >= len(waiting)
            (finding,) = run(d038_subscriptions.look(None), working.owner).findings
            assert "usersync subscriptions resume crm" in finding.fix

            # The resume of a pause confirms nothing.
            assert command(copy, "pause", "crm")[0] == 0
            assert command(copy, "resume", "crm")[0] == 0
            wait_for(lambda: working.status("crm").state == "held", "the subscription to be held again")
            assert received() == sent

            assert command(copy, "resume", "crm", "own")[1] == "Active: crm, own"
            working.wait_done("crm")
            assert received() == sent + waiting
            assert working.status("crm").home_address == ours
            acts = "select count(*) from public.audit_logs where action = 'usersync.subscription_resumed'"
            assert working.owner.execute(acts).fetchone() == (2,)
        # Production has gone on, and sends its own events.
        with at(production) as working, working.worker():
            working.wait_done("crm")
            assert received() == sent + 2 * waiting


def test_existing_subscriptions_get_the_home_of_their_first_worker(project, working):
    run(add(), working.owner)
    working.owner.execute("update usersync.subscriptions set state = 'held'")
    working.owner.execute(read_sql("migrations/0021_homes.down.sql"))
    working.owner.execute("delete from usersync.schema_version where version = 21")
    row = "select to_jsonb(subscriptions) from usersync.subscriptions"
    (earlier,) = working.owner.execute(row).fetchone()
    # An earlier release does not know the state, and must not send the events.
    assert earlier["state"] == "paused"
    assert "home_cluster" not in earlier
    with pytest.raises(DatabaseError) as error:
        working.new(None).check()
    assert "After an upgrade of usersync, run: usersync apply." in error.value.hint
    run(installation.apply(project.settings), working.owner)
    assert homes(working) == ("paused", None, None)
    with working.worker():
        wait_for(lambda: homes(working)[1:] != (None, None), "the home")
    assert homes(working)[2] == database_address(working.dsn)


def metadata(nats):
    return nats.ask(f"STREAM.INFO.{ENVELOPES}")["config"]["metadata"]


@pytest.fixture
def prompt(monkeypatch):
    """Workers try again at once."""
    monkeypatch.setattr(ingest, "_LONGEST_WAIT_S", 0.2)
    monkeypatch.delenv("USERSYNC_INGEST", raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("prompt")
def test_a_copy_takes_no_event_out_of_the_stream_of_production(  # noqa: PLR0917 - fixtures
    production, copied, command, nats, opened, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "usersync.worker")
    with at(production) as working, working.worker(ingest=nats.url):
        wait_for_stream(nats)
        wait_for(lambda: "storing the events of" in caplog.text, "the worker of production")
    known = metadata(nats)
    assert known[ADDRESS] == database_address(production.dsn())
    log = opened(nats.url)
    record(log, range(5))
    assert log.flush(90)
    copy = copied()
    held = f"the stream usersync-in belongs to the database {known[ADDRESS]}. This is the database"
    assert command(copy, "resume")[0] == 2
    assert "USERSYNC_INGEST is not in the environment" in command(copy, "resume", "--ingest")[1]
    assert "is not valid" in command(copy, "resume", "--ingest", "crm")[1]
    monkeypatch.setenv("USERSYNC_INGEST", nats.url)
    caplog.clear()
    with at(copy) as working, working.worker(ingest=nats.url) as worker:
        wait_for(lambda: held in (worker.readiness_problem() or ""), "the stream to be held")
        failures = worker.ingest_monitor.counters.failures
        wait_for(lambda: worker.ingest_monitor.counters.failures > failures + 2, "more attempts")
        assert (stored(working), metadata(nats)) == ({}, known)
        assert caplog.text.count(held) == 1

        told = f"Active: usersync-in {nats.url} The stream belonged to the database {known[ADDRESS]}."
        assert command(copy, "resume", "--ingest") == (0, told)
        wait_stored(working, range(5))
        wait_empty(nats)
        taken = metadata(nats)
        assert taken[ADDRESS] == database_address(copy.dsn())
        assert taken[POSITION] != known[POSITION]

    # A stream of an earlier release has no address. It belongs to the cluster of its position.
    config = nats.ask(f"STREAM.INFO.{ENVELOPES}")["config"]
    del config["metadata"][ADDRESS]
    nats.ask(f"STREAM.UPDATE.{ENVELOPES}", config)
    record(log, range(5, 8))
    assert log.flush(90)
    with at(production) as working, working.worker(ingest=nats.url) as worker:
        wait_for(lambda: "a database in the cluster" in (worker.readiness_problem() or ""), "the reason")
        assert stored(working) == {}
    with at(copy) as working, working.worker(ingest=nats.url):
        wait_stored(working, range(8))
    assert metadata(nats) == taken


@pytest.mark.usefixtures("prompt")
def test_a_running_worker_stops_when_another_database_takes_its_stream(  # noqa: PLR0917 - fixtures
    production, copied, command, nats, opened, caplog, monkeypatch
):
    caplog.set_level(logging.INFO, "usersync.worker")
    monkeypatch.setattr(ingest, "HOME_S", 0.1)
    monkeypatch.setenv("USERSYNC_INGEST", nats.url)
    copy = copied()
    with at(production) as former, former.worker(ingest=nats.url) as worker:
        wait_for_stream(nats)
        wait_for(lambda: "storing the events of" in caplog.text, "the worker of production")
        assert command(copy, "resume", "--ingest")[0] == 0
        wait_for(lambda: "belongs to" in (worker.readiness_problem() or ""), "the stream to be held")
        taken = metadata(nats)
        log = opened(nats.url)
        record(log, range(5))
        assert log.flush(90)
        with at(copy) as new, new.worker(ingest=nats.url):
            wait_stored(new, range(5))
        assert stored(former) == {}
        assert metadata(nats)[POSITION] == taken[POSITION]


def test_a_batch_is_stored_only_in_the_cluster_for_which_the_stream_was_checked(working):
    """The database can be replaced while a worker runs."""
    here = run(users.position(), working.owner)
    there = DatabasePosition(here.installation, "1/1", here.timeline)
    with pytest.raises(WrongDatabaseError):
        ingest.StreamBinding(there).check_database(here)
    with closing(Sender(working.dsn, 60)) as sender:
        event = b'{"action": "order.paid", "metadata": {"n": 1}}'
        with pytest.raises(WrongDatabaseError):
            sender.send([event], belongs_to=ingest.StreamBinding(there).check_database(there))
        failed_over = DatabasePosition(here.installation, here.cluster, "000000FF")
        sender.send([event], belongs_to=ingest.StreamBinding(failed_over).check_database(here))
    assert stored(working) == {1: 1}
