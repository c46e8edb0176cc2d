"""Runs every code block of the explanatory pages in order, in a new directory.

The test of a page has the page's name. It prepares the project and provides what a reader has, for example a
user's id or a table of the application.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from procedure_pages import DOCS, Page, blocks
from psycopg.conninfo import conninfo_to_dict
from tortoise import Model
from tortoise.fields import IntField

from admin_api import AdminApi
from audit_settings import with_audit_log
from event_receivers import EVENT, BackgroundReceiver, answer
from fixtures_project import clone_installed
from hooks_skips import skip_without
from postgrest_server import SECRET_KEY, SERVICE_KEY, Gateway
from usersync import AuditLog
from usersync.config.settings import Settings
from usersync.events.secret_box import new_secret
from usersync.events.webhooks.request import signed_request
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.jetstream import StreamAddress
from usersync.worker.worker import Worker
from waiting import until

pytestmark = pytest.mark.newest_server

ROOT = DOCS.parent

#: Pages whose blocks another test module runs.
RUN_BY_OTHER_MODULES = {
    "docs/backup.md": "tests/docs/test_backup.py",
    "docs/procedures.md": "tests/docs/test_procedures.py",
    "docs/testing.md": "tests/testing/test_testing_page.py",
    "docs/migrations.md": "tests/contrib/alembic/test_alembic.py",
    "docs/frameworks.md": "tests/contrib/test_frameworks_page.py",
    "examples/celery/README.md": "tests/contrib/queues/test_task_queues.py",
    "examples/procrastinate/README.md": "tests/contrib/queues/test_task_queues.py",
    "examples/django/README.md": "tests/contrib/django/test_django_example.py",
    "examples/fastapi/README.md": "tests/contrib/fastapi/test_fastapi_example.py",
    "examples/sqlmodel/README.md": "tests/test_examples_of_schema_tools.py",
    "examples/flask/README.md": "tests/contrib/flask/test_flask_example.py",
}

#: Pages without executable blocks: output of --help, and sketches.
NOTHING_TO_RUN = {"docs/commands.md", "CONTRIBUTING.md"}


def name_of(path):
    path = Path(path)
    stem = path.parent.name if path.parent.parent.name == "examples" else path.stem
    return "test_" + re.sub(r"\W+", "_", stem.lower())


def test_every_page_with_a_block_has_a_test():
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("examples/*/README.md")]
    with_blocks = {
        str(page.relative_to(ROOT))
        for page in pages
        if blocks(page.read_text()) and ".head." not in page.name
    }
    here = {page for page in with_blocks if name_of(page) in globals() and page not in RUN_BY_OTHER_MODULES}
    assert with_blocks - here - RUN_BY_OTHER_MODULES.keys() == NOTHING_TO_RUN
    assert all(
        {"page", "example"} & inspect.signature(globals()[name_of(each)]).parameters.keys() for each in here
    )
    assert all((ROOT / module).exists() for module in RUN_BY_OTHER_MODULES.values())


def test_no_block_is_hidden_from_the_tests():
    for path in [ROOT / "README.md", *DOCS.glob("*.md")]:
        text = path.read_text()
        fences = re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)
        assert len(fences) == 2 * len(blocks(text)), path.name


@pytest.fixture
def settings():
    """The settings with which usersync is installed when the page begins. None: it is not installed."""
    return with_audit_log()


@pytest.fixture
def database(cluster, settings):
    bare = cluster.template("supabase_old")
    database = clone_installed(cluster, settings) if settings else cluster.clone(bare)
    yield database
    cluster.drop(database)


@pytest.fixture
def page(database, shell, capsys, request):
    """The page with the name of the test. Fails if the test does not run every block."""
    pages = [*DOCS.glob("*.md"), *ROOT.glob("examples/*/README.md"), ROOT / "README.md"]
    path = {name_of(path): path for path in pages}[request.function.__name__]
    if path.parent.parent.name == "examples":
        shutil.copytree(path.parent, ".", dirs_exist_ok=True)
    page = Page(deque(blocks(path.read_text())), database, None, capsys)
    with AuditLog(database.dsn()) as audit:
        page.python["audit"] = audit
        yield page
        if isinstance(page.python["audit"], AuditLog):
            page.python["audit"].close()
    assert not page.blocks


def sign_up(database):
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        return auth.sign_up_email("ada@example.com")


without_usersync = pytest.mark.parametrize("settings", [None], ids=["new"])
without_log = pytest.mark.parametrize("settings", [Settings()], ids=["no log"])


@pytest.mark.slow
@without_usersync
def test_readme(page, database, postgres, monkeypatch):
    page.environment = {"SUPABASE_DB_URL": database.dsn()}
    page.skip_block()
    page.python["user_id"] = user = sign_up(database)
    page.run(2)
    assert page.python["audit"].flush()
    page.python["audit"].close()
    actions = "select action from public.audit_logs where source = 'app' order by 1"
    assert postgres.execute(actions).fetchall() == [("product.created",)]

    # The longer procedure begins with another project, and a file instead of a variable.
    assert page.usersync("usersync rollback --yes")[0] == 0
    postgres.execute("drop table public.users, public.audit_logs cascade")
    Path("usersync.toml").unlink()
    monkeypatch.delenv("SUPABASE_DB_URL")
    page.run(5)
    assert postgres.execute("select email, plan from public.users").fetchall() == [
        ("ada@example.com", "free")
    ]
    page.python |= {"user": SimpleNamespace(id=user), "request_id": uuid4()}
    with database.connect() as connection:
        page.python["connection"] = connection
        page.run(2)
    assert page.python["audit"].flush()
    assert postgres.execute(actions).fetchall() == [("product.created",), ("stock.adjusted",)]
    page.skip_block()


@pytest.mark.slow
@without_log
def test_audit(page, database, postgres, superuser):
    postgres.execute(
        "create table public.products (id bigint primary key, stock int, search_vector tsvector)"
    )
    postgres.execute("insert into public.products values (42, 10)")
    page.python |= {"user": SimpleNamespace(id=sign_up(database)), "request_id": "r-1", "ip": "192.0.2.1"}
    page.run(2)
    assert page.python["audit"].flush()
    page.run(1)
    with database.connect() as connection:
        page.python["connection"] = connection
        page.run(1)
    assert page.python["audit"].flush()
    page.run(6)
    install(database, with_audit_log({"audit": {"users_read": True}}))
    page.run(1)
    page.python["event_id"] = page.python["audit"].search(limit=1).events[0].id
    page.run(1)
    assert page.python["event"].action
    page.run(1)
    assert [event.action for event in page.python["page"].events] == ["order.paid"]
    page.run(2)
    # The remaining blocks use a project with usersync's own audit table again.
    Path("usersync.toml").unlink()
    page.names["my_app"] = role = f"my_app_{uuid4().hex}"
    superuser.execute(f"create role {role}")
    page.run(5)
    superuser.execute(f"drop owned by {role}; drop role {role}")
    page.run()
    partitions = "select count(*) from pg_inherits where inhparent = 'public.audit_logs'::regclass"
    assert postgres.execute(partitions).fetchone()[0] > 36


def test_user_events(page, database, postgres):
    page.run()
    sign_up(database)
    events = "select action, metadata ->> 'origin' from public.audit_logs where entity_type = 'user'"
    assert postgres.execute(events).fetchall()[0] == ("user.created", "trigger")


@pytest.mark.slow
def test_subscriptions(page, database, postgres, monkeypatch):
    postgres.execute("create table public.workspaces (owner_id uuid unique)")
    _, module = page.blocks[0]
    Path("shop").mkdir()
    Path("shop/events.py").write_text(module)
    monkeypatch.syspath_prepend(Path.cwd())
    page.run(1)
    page.run(1)
    with closing(Worker(database.dsn(), page.python["handlers"])) as worker:
        worker.start()
        user = sign_up(database)
        owners = "select owner_id from public.workspaces"
        found = until(lambda: postgres.execute(owners).fetchall())
        assert found == [(user,)]
        page.python["make_workspace"](replace(EVENT, user_id=user), postgres)
        page.python["make_workspace"](replace(EVENT, user_id=None), postgres)
        assert postgres.execute(owners).fetchall() == [(user,)]
        monkeypatch.setenv("DATABASE_URL", database.dsn("postgres"))
        monkeypatch.setenv("BROKER_URL", "memory://")
        page.run(1)
        check_queues(page.python, postgres)
        page.run(1)


def check_queues(module, postgres):
    """Transactional handlers add their jobs in the same transaction.

    The other handler's task has the event's id.
    """
    # The test servers lack the extension pgmq, so this function with its name replaces it.
    postgres.execute("create schema pgmq; create table pgmq.receipts (message jsonb)")
    postgres.execute(
        "create function pgmq.send(queue text, message jsonb) returns bigint language sql "
        "as 'insert into pgmq.receipts values (message) returning 1'"
    )
    with module["jobs"].open():
        module["jobs"].schema_manager.apply_schema()
    queued = "select (select count(*) from procrastinate_jobs), (select count(*) from pgmq.receipts)"
    with postgres.transaction(force_rollback=True):
        module["defer_welcome"](EVENT, postgres)
        module["queue_receipt"](EVENT, postgres)
        assert postgres.execute(queued).fetchone() == (1, 1)
    assert postgres.execute(queued).fetchone() == (0, 0)
    module["queue_update"](EVENT)
    with module["celery"].connection() as broker:
        assert broker.default_channel.basic_get("celery").headers["id"] == str(EVENT.id)


def test_webhooks(page, monkeypatch, capsys):
    monkeypatch.setenv("USERSYNC_SECRET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("WEBHOOK_SECRET", (secret := new_secret()).text)
    welcomed = []

    async def welcome(*given):
        welcomed.append(given)

    page.python["welcome"] = welcome
    page.run(2)
    created = replace(EVENT, action="user.created")
    sent = signed_request(created, "cloudevents", [secret])
    with TestClient(page.python["app"]) as client:
        assert client.post("/hooks", content=sent.body, headers=sent.headers).status_code == 204
        assert client.post("/hooks", content=sent.body + b" ", headers=sent.headers).status_code == 400
    assert welcomed == [(str(created.id), created.entity_id)]
    page.run(2)
    with BackgroundReceiver([answer()]) as receiver:
        page.names["http://127.0.0.1:8000/hooks"] = receiver.url
        page.run()
    assert len(receiver.requests) == 1


@pytest.mark.slow
def test_streams(page, database, postgres, nats):
    page.names["nats://127.0.0.1:4222"] = nats.url
    page.run(1)
    with closing(Worker(database.dsn(), ingest=nats.url)) as worker:
        worker.start()
        assert page.python["audit"].flush(90)
        paid = "select count(*) from public.audit_logs where action = 'order.paid'"
        until(lambda: postgres.execute(paid).fetchone() != (0,))
    page.python["audit"].close()
    page.run(2)
    page.skip_block()
    page.run(1)
    for url in page.blocks.popleft()[1].split():
        assert StreamAddress.parse(url).servers
    page.run()


@pytest.mark.slow
def test_data_api(serve, page, database, superuser, monkeypatch):
    gateway, user = serve(database), sign_up(database)
    with Gateway(upstream=None, auth=AdminApi(database)) as auth_server:
        page.environment = {
            "SUPABASE_URL": gateway.url, "SUPABASE_SECRET_KEY": SECRET_KEY,
            "SUPABASE_AUTH_URL": f"{auth_server.url}/auth/v1", "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY,
        }  # fmt: skip
        page.python |= {"user_id": user, "url": gateway.url, "secret_key": SECRET_KEY}
        page.run(3)
        page.python["sync"].close()
        page.run(1)
        superuser.execute("alter role service_role reset statement_timeout")
        page.run(3)
    monkeypatch.setenv("SUPABASE_URL", gateway.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)
    page.names['"…"'] = f'"{user}"'
    page.run()


@pytest.mark.slow
def test_console(page, database, monkeypatch):
    monkeypatch.setenv("VIEWER_KEY", "k" * 43)

    async def signed_in_user(request):
        is_admin = request.headers.get("x-test") == "admin"
        return SimpleNamespace(is_admin=is_admin, may_change_users=is_admin, email="eve@example.com")

    page.python |= {"dsn": database.dsn(), "signed_in_user": signed_in_user}
    page.run()
    browser = TestClient(page.python["app"])
    assert browser.get("/usersync/").status_code == 403
    answer = browser.get("/usersync/", headers={"x-test": "admin"})
    assert "<h1>Overview</h1>" in answer.text
    assert browser.get("/operations/").status_code == 403
    assert browser.get("/operations/", headers={"x-test": "admin"}).status_code == 200
    shown = browser.get(page.python["link"])
    assert "<h1>Activity of your team</h1>" in shown.text
    assert "frame-ancestors https://app.example.com" in shown.headers["content-security-policy"]


def test_how_it_works(page):
    page.skip_block()
    page.skip_block()


#: A project as the page describes it.
PROFILES = """
    create table public.profiles (
        id uuid primary key references auth.users on delete cascade,
        username text unique, full_name text, updated_at timestamptz);
    create function public.handle_new_user() returns trigger
    language plpgsql security definer set search_path = '' as $$
    begin
        insert into public.profiles (id, username, full_name)
        values (new.id, new.raw_user_meta_data ->> 'username', new.raw_user_meta_data ->> 'full_name');
        return new;
    end $$;
"""
TRIGGER = """
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user()
"""


@pytest.mark.slow
@without_usersync
def test_init(page, database, postgres, superuser):
    postgres.execute(PROFILES)
    superuser.execute(TRIGGER)
    superuser.execute("""
        insert into auth.users (id, aud, role, email, raw_user_meta_data, created_at)
        select gen_random_uuid(), 'authenticated', 'authenticated', number || '@example.com',
            jsonb_build_object('username', 'user' || number, 'full_name', 'Ada'), now()
        from generate_series(1, 1204) as number;
        analyze public.profiles;
        analyze auth.users
    """)
    page.names |= {"db.example.com:5432/postgres": f"{database.host}:{database.port}/{database.name}"}
    page.run(2)
    # The last section has another project, with users and profiles.
    postgres.execute("create table public.users (id uuid primary key)")
    page.run()


def test_lifecycle(page, database, postgres, auth):
    user = sign_up(database)
    page.run(1)
    auth.hard_delete(user)
    page.names["6f1c0f6e-…"] = user
    page.run()
    assert postgres.execute("select email from public.users").fetchall() == [(None,)]


@pytest.mark.slow
def test_monitoring(page, tmp_path):
    page.names |= {"/var/lib/node_exporter/": f"{tmp_path}/", "0.0.0.0:9464": "127.0.0.1:0"}
    page.run()


def test_performance(page):
    page.run()


@pytest.mark.slow
def test_python(page, database, monkeypatch):
    # The test servers use one iteration of password hashing, to be fast. pg8000 refuses that.
    monkeypatch.setattr("scramp.core.IterationCount.MIN_ITERATION_COUNT", 1)
    models = ModuleType("models")
    models.Order = type("Order", (Model,), {"__module__": "models", "id": IntField(primary_key=True)})
    monkeypatch.setitem(sys.modules, "models", models)
    parts = conninfo_to_dict(database.dsn())
    login = {name: parts[name] for name in ("host", "user", "password")}
    page.python |= {
        "user_id": sign_up(database),
        "dsn": database.dsn(),
        "login": login | {"port": int(parts["port"]), "database": parts["dbname"]},
        "tortoise_url": database.dsn().replace("postgresql://", "asyncpg://"),
    }
    with database.connect() as owner:
        owner.execute("create table orders (user_id uuid references public.users)")
    page.run()
    with database.connect() as owner:
        assert owner.execute("select user_id from orders").fetchall() == [(page.python["user_id"],)] * 2
        events = owner.execute("select action from audit_logs where entity_id = '7' order by id").fetchall()
    assert [action for (action,) in events] == [
        "order.placed", "order.paid", "order.packed", "order.shipped", "order.delivered",
    ]  # fmt: skip
    assert page.python["audit"].stats().dropped == 0


def test_settings(page):
    page.run()


def test_trial(page):
    page.skip_block()  # tests/trial compares this output


def test_troubleshooting(page, database):
    page.names["user-id"] = user = sign_up(database)
    page.run()
    assert user


@pytest.fixture
def psql():
    return shutil.which("psql") or skip_without("psql")


@pytest.fixture
def example(psql, page, database, monkeypatch):
    """The directory of an example, and a function that runs programs as the example's README does."""
    assert psql
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DATABASE_URL", database.dsn())
    page.names["<id>"] = sign_up(database)
    return page


@pytest.mark.slow
@without_usersync
def test_inventory(example):
    example.run()


@pytest.mark.slow
@without_log
def test_sqlalchemy(example):
    example.run()
