"""docs/procedures.md, run as it is written.

The test of a procedure has the name of its heading. It sets the stage, runs the blocks in their order, and
may look around or play somebody else's part between two of them.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auth_stand_in import AuthServer
from fix_catalog import read_catalog
from fix_lacking import skip_without
from logged import logged
from usersync import AuditLog, UserSync
from usersync.cli.main import run
from usersync.testing import GoTrue, GoTrueError
from usersync.testing.install import install

pytestmark = pytest.mark.newest_server

PAGE = (Path(__file__).parents[2] / "docs/procedures.md").read_text("utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])

TABLES = """
    create table public.orders (
        id bigint generated always as identity primary key,
        user_id uuid not null references public.users, item text);
    create table public.favourites (
        user_id uuid references public.users, product text, primary key (user_id, product));
"""


def blocks(text):
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_name(heading):
    return "test_" + re.sub(r"\W+", "_", heading.lower())


test_name.__test__ = False


def build(database):
    install(database, logged())
    with database.connect() as owner:
        owner.execute(TABLES)


@pytest.fixture
def database(cluster):
    """A project with usersync and a few tables of an application."""
    database = cluster.clone(cluster.template("procedures", build=build))
    yield database
    cluster.drop(database)


@dataclass
class Procedure:
    """A section of the page, block by block."""

    blocks: deque
    database: object
    server: AuthServer
    capsys: object
    #: What stands in angle brackets on the page, and what it is here.
    names: dict = field(default_factory=dict)

    def run(self, count=None):
        """Run the next blocks, or all that are left."""
        for _ in range(len(self.blocks) if count is None else count):
            language, text = self.blocks.popleft()
            text = re.sub(r"<[\w-]+>", lambda name: str(self.names[name[0]]), text)
            getattr(self, f"_{language}")(text)

    def _console(self, text):
        nothing, *commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert not nothing
        for command in commands:
            line, *shown = command.splitlines()
            code, out = (self.usersync if line.startswith("usersync ") else self._shell)(line)
            expected = re.search(r"# exit code (\d)", line)
            assert code == int(expected[1] if expected else 0), f"{line}\n{out}"
            for each in shown:
                pattern = ".*".join(map(re.escape, each.split("…")))
                assert re.search(f"^ *{pattern}$", out, re.MULTILINE), f"{line}\n{out}"

    def usersync(self, line):
        _, *words = shlex.split(line, comments=True)
        code = run([os.path.expandvars(word) for word in words])
        captured = self.capsys.readouterr()
        return code, captured.out + captured.err

    def _shell(self, line):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _sql(self, text):
        with self.database.connect() as owner:
            cursor, found, more = owner.execute(text), [], True
            while more:
                found = cursor.fetchall() if cursor.description else found
                more = cursor.nextset()
        shown = re.search(r";  -- (.*)$", text, re.MULTILINE)
        assert shown or "--" not in text
        if shown:
            rows = [[each if isinstance(each, str) else json.dumps(each) for each in row] for row in found]
            assert "; ".join(map(", ".join, rows)) == shown[1]

    def _python(self, text):
        exec(compile(text, "docs/procedures.md", "exec"), {})  # noqa: S102 - our own page

    def _http(self, text):
        request, _, body = text.strip().partition("\n\n")
        method, path = request.split(" /auth/v1", 1)
        headers = {"Authorization": "Bearer secret"}
        status, answer = self.server.answer(method, path, headers, json.loads(body or "{}"))
        assert status == 200, answer


@pytest.fixture
def shell(database, server, monkeypatch, tmp_path):
    """An empty directory, an environment that knows the database, and the server's own programs."""
    for variable in ("DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("PATH", f"{server.bin_dir}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def procedure(database, shell, capsys, request):
    """The section that this test is named after; fails if the test leaves a block out."""
    name = request.node.function.__name__
    (text,) = [text for heading, text in SECTIONS.items() if test_name(heading) == name]
    with AuthServer(database, "secret") as auth_server:
        procedure = Procedure(deque(blocks(text)), database, auth_server, capsys)
        yield procedure
    assert not procedure.blocks


@pytest.fixture
def dumps(server):
    if not (server.bin_dir / "pg_dump").exists():
        skip_without("pg_dump", f"none in {server.bin_dir}")


@pytest.fixture
def sync(database):
    with UserSync(database.dsn()) as sync:
        yield sync


def row(postgres, user_id):
    return postgres.execute("select email, deleted_at from public.users where id = %s", [user_id]).fetchone()


def id_of(postgres, email):
    return postgres.execute("select id from auth.users where email = %s", [email]).fetchone()[0]


def test_every_block_belongs_to_a_procedure_with_a_test():
    tests = [globals()[test_name(heading)] for heading in SECTIONS]
    assert all("procedure" in inspect.signature(test).parameters for test in tests)
    assert blocks(PAGE.split("\n## ")[0]) == []
    fences = re.findall(r"^ *(?:```|~~~)", PAGE, re.MULTILINE)
    assert len(fences) == 2 * sum(len(blocks(text)) for text in SECTIONS.values())


def test_create_a_user(procedure, postgres, sync):
    procedure.run()
    assert sync.user_exists(id_of(postgres, "ada@example.com"))


def test_invite_a_user(procedure, auth, postgres):
    procedure.run()
    user = auth.confirm(id_of(postgres, "grace@example.com"))
    accepted = "select email_confirmed_at is not null from public.users where id = %s"
    assert postgres.execute(accepted, [user]).fetchone() == (True,)


def test_change_an_e_mail_address(procedure, auth):
    procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    procedure.run()


def test_ban_a_user(procedure, auth):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    procedure.run(2)
    with pytest.raises(GoTrueError, match="banned"):
        auth.sign_in(user)
    procedure.run()
    auth.sign_in(user)


def test_delete_a_user(procedure, auth, postgres):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [user])
    procedure.run()
    assert auth.sign_up_again("ada@example.com") != user


def record(database, user, **fields):
    with AuditLog(database.dsn(), durability="memory") as log:
        log.record("order.placed", actor_id=user, user_id=user, **fields)
        assert log.flush()


def test_erase_a_user(procedure, auth, postgres, database):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    record(database, user, ip="192.0.2.1", metadata={"email": "ada@example.com"})
    auth.hard_delete(user)
    procedure.run()
    (event,) = postgres.execute(
        "select to_jsonb(log)::text from public.audit_logs as log where action = 'order.placed'"
    ).fetchone()
    assert "192.0.2.1" not in event
    assert "ada@example.com" not in event


def test_merge_two_accounts(procedure, auth, postgres, database):
    old, new = auth.sign_up_email("ada@example.com"), auth.sign_up_oauth("github", "ada@work.example.com")
    procedure.names |= {"<old-id>": old, "<new-id>": new}
    postgres.execute(
        "insert into public.orders (user_id, item) values (%(old)s, 'a'), (%(old)s, 'b'), (%(new)s, 'c')",
        {"old": old, "new": new},
    )
    postgres.execute(
        "insert into public.favourites values (%(old)s, 'bolt'), (%(new)s, 'bolt'), (%(old)s, 'nut')",
        {"old": old, "new": new},
    )
    record(database, old)
    procedure.run()
    items = (
        "select item from public.orders where user_id = %s union all select product from public.favourites"
    )
    assert {item for (item,) in postgres.execute(items, [new])} == {"a", "b", "c", "bolt", "nut"}
    log = "select action, actor_id, user_id from public.audit_logs order by occurred_at"
    assert postgres.execute(log).fetchall() == [("order.placed", str(old), old), ("user.merged", None, new)]
    assert row(postgres, new) == ("ada@work.example.com", None)
    assert row(postgres, old)[0] is None


@pytest.mark.usefixtures("dumps")
def test_restore_from_a_backup(procedure, auth, postgres, sync, database):
    procedure.run(1)
    before, changed = auth.sign_up_email("before@example.com"), auth.sign_up_email("changed@example.com")
    gone = auth.sign_up_email("gone@example.com")
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [before])
    record(database, before)
    procedure.run(1)
    after = auth.sign_up_email("after@example.com")
    auth.change_email(changed, "new@example.com")
    auth.hard_delete(gone)
    record(database, after)
    postgres.execute("truncate public.orders; alter table public.users drop column full_name")
    procedure.run()
    assert row(postgres, before) == ("before@example.com", None)
    assert row(postgres, changed) == ("new@example.com", None)
    assert row(postgres, after) == ("after@example.com", None)
    assert row(postgres, gone)[0] is None
    assert postgres.execute("select item from public.orders").fetchall() == [("bolt",)]
    assert sync.user_exists(auth.sign_up_email("later@example.com"))
    events = "select actor_id, user_id from public.audit_logs where source <> 'sync' order by occurred_at"
    assert postgres.execute(events).fetchall() == [(str(before), before), (str(after), after)]


@pytest.fixture
def there(cluster):
    """Another project, with nothing in it."""
    database = cluster.create()
    yield database
    cluster.drop(database)


@pytest.mark.usefixtures("dumps")
def test_move_to_another_project(procedure, auth, postgres, there, monkeypatch):
    users = [auth.sign_up_email("ada@example.com"), auth.sign_up_oauth(email="grace@example.com")]
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [users[0]])
    monkeypatch.delenv("SUPABASE_DB_URL")
    monkeypatch.setenv("OLD_DB_URL", procedure.database.dsn())
    monkeypatch.setenv("NEW_DB_URL", there.dsn())
    procedure.run()
    with there.connect() as owner, UserSync(there.dsn()) as sync:
        assert owner.execute("select user_id, item from public.orders").fetchall() == [(users[0], "bolt")]
        assert row(owner, users[1]) == ("grace@example.com", None)
        with GoTrue(there.dsn("supabase_auth_admin")) as auth_there:
            auth_there.sign_in(users[0])
            assert sync.user_exists(auth_there.sign_up_email("later@example.com"))


@pytest.fixture
def paused(cluster, database):
    """Nobody new gets in until the end of the block."""

    @contextmanager
    def paused():
        allow = f"alter database {database.name} allow_connections"
        cluster.maintenance.execute(f"{allow} false")
        try:
            yield
        finally:
            cluster.maintenance.execute(f"{allow} true")

    return paused


def test_resume_a_paused_project(procedure, auth, postgres, superuser, paused):
    seen = auth.sign_up_email("seen@example.com")
    superuser.execute("""
        drop trigger on_auth_user_created on auth.users;
        drop trigger on_auth_user_updated on auth.users;
        drop trigger on_auth_user_deleted on auth.users;
    """)
    parts = "select inhrelid::regclass from pg_inherits where inhparent = 'public.audit_logs'::regclass"
    for (part,) in postgres.execute(parts).fetchall():
        if "default" not in part:
            postgres.execute(f"drop table {part}")
    unseen = auth.sign_up_email("unseen@example.com")
    with paused():
        log = AuditLog(procedure.database.dsn())
        log.record("order.placed", actor_id=seen)
        log.close(timeout=0.1)
    procedure.run()
    assert row(postgres, unseen)
    assert postgres.execute("select actor_id from public.audit_logs").fetchall() == [(str(seen),)]


def test_upgrade_the_auth_server(procedure, auth, sync):
    auth.sign_up_email()
    auth.connection.execute("""
        alter table auth.users add column passkey_only boolean not null default false;
        alter table auth.users alter column phone type character varying(30);
    """)
    procedure.run()
    assert sync.user_exists(auth.sign_up_email())
    auth.connection.execute("alter table auth.users rename column phone to telephone")
    auth.connection.execute("insert into auth.users (id) values (gen_random_uuid())")
    assert [each.sqlstate for each in sync.failures()] == ["42703"]
    code, out = procedure.usersync("usersync doctor")
    assert (code, "auth.users has no column phone" in out) == (1, True)


RECIPE = """
    create table public.users (id uuid primary key, email text);
    alter table public.users enable row level security;
    create function public.handle_new_user() returns trigger language plpgsql security definer as $$
    begin
        insert into public.users (id, email) values (new.id, new.email);
        return new;
    end $$;
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""


@pytest.fixture
def bare(cluster):
    """A project with a recipe, and without usersync."""
    database = cluster.create()
    with database.connect() as owner:
        owner.execute(RECIPE)
    yield database
    cluster.drop(database)


def test_replace_a_hand_written_trigger(procedure, bare, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", bare.dsn())
    admin = bare.dsn("supabase_auth_admin")
    with bare.connect("supabase_admin") as superuser, GoTrue(admin) as auth:
        before = read_catalog(superuser)
        user = auth.sign_up_email("ada@example.com")
        procedure.run(1)
        auth.change_email(user, "new@example.com")
        # As today: the hand-written trigger fills the address once, and does not follow it.
        assert superuser.execute("select email from public.users").fetchall() == [("ada@example.com",)]
        procedure.run()
        after = {key: body for key, body in read_catalog(superuser).items() if "audit_logs" not in key[1]}
        assert after == before


def test_pause_usersync(procedure, auth, postgres):
    auth.sign_up_email("before@example.com")
    procedure.run(1)
    user = auth.sign_up_email("during@example.com")
    procedure.run(1)
    assert row(postgres, user) is None
    procedure.run()
    assert row(postgres, user) == ("during@example.com", None)


def test_every_morning(procedure, auth):
    auth.sign_up_email()
    procedure.run()


AUDITING = """
    create function public.audit_sign_up() returns trigger language plpgsql as $$
    begin
        raise exception 'no table of sign-ups';
    end $$;
    create trigger audit_sign_up after insert on auth.users
        for each row execute function public.audit_sign_up();
"""


def test_when_the_pager_rings(procedure, auth, postgres, sync):
    postgres.execute("alter table public.users add column team text not null default 'a'")
    postgres.execute("alter table public.users alter column team drop default")
    user = auth.sign_up_email("ada@example.com")
    procedure.run(1)
    postgres.execute("alter table public.users alter column team set default 'a'")
    procedure.run(1)
    assert sync.user_exists(user)
    postgres.execute(AUDITING)
    with pytest.raises(GoTrueError, match="Database error saving new user"):
        auth.sign_up_email()
    procedure.run(1)
    postgres.execute("drop function public.audit_sign_up() cascade")
    procedure.run(1)
    unseen = auth.sign_up_email()
    assert not row(postgres, unseen)
    procedure.run()
    assert row(postgres, unseen)
