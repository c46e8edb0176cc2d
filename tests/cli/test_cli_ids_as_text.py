"""Commands on a table whose key stores the auth server's id as text, as Prisma creates it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from fixtures_project import CITEXT_SCHEMA, add_citext
from usersync import AuditLog
from usersync.config.settings import load_settings

#: The type of the key and of the columns that reference it.
KINDS = {"text": "text", "citext": f"{CITEXT_SCHEMA}.citext"}

PRISMA = """
    create table public."User" (
        "id" {kind} primary key,
        "email" text unique,
        "createdAt" timestamp(3) not null default current_timestamp,
        "updatedAt" timestamp(3) not null default current_timestamp
    );
    create table public."Post" (
        "id" text primary key,
        "authorId" {kind} not null references public."User" ("id") on delete cascade
    )
"""


@pytest.fixture(params=KINDS)
def kind(request, database):
    if request.param == "citext":
        add_citext(database)
    return KINDS[request.param]


@pytest.fixture
def users(database, postgres, auth, monkeypatch, kind):
    """Three users whose rows the application created, the last one with a post, and a user without a row."""
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.execute(PRISMA.format(kind=kind))
    made = [auth.sign_up_email(f"user{n}@example.com") for n in range(4)]
    for user in made[:3]:
        postgres.execute(
            'insert into public."User" (id, email) values (%s::text, %s)', [user, f"{user}@x.com"]
        )
    postgres.execute('insert into public."Post" values (%s, %s::text)', ["a post", made[2]])
    return made


@pytest.fixture
def proposed(users, usersync):
    """The proposal of init, with the answer that usersync creates the rows."""
    done = usersync("init", "--yes", "--no-trial", "--json")
    assert done.json["settings"]["key_type"] == str(load_settings().key_type) != "uuid"
    path = Path("usersync.toml")
    text = path.read_text()
    assert "The column id holds the id as text." in text
    path.write_text(text.replace("creates_rows = false", "creates_rows = true"))
    return users


@pytest.fixture
def installed(proposed, usersync):
    path = Path("usersync.toml")
    path.write_text(path.read_text().replace("enabled = false", "enabled = true"))
    done = usersync("apply", "--yes", "--no-trial")
    assert done.code == 0, done.out + done.err
    return proposed


def ids(postgres):
    return {row[0].strip() for row in postgres.execute('select id::text from public."User"').fetchall()}


@pytest.mark.slow
@pytest.mark.newest_server
def test_init_apply_sync_and_rollback_work(proposed, usersync, postgres, auth, catalog):
    before = catalog()
    applied = usersync("apply", "--yes")
    assert applied.code == 0, applied.out + applied.err
    assert "flows of the auth server, tried as postgres and rolled back" in applied.out.replace("\n ", "")
    assert usersync("plan").out.count("Nothing to change") <= 1
    assert usersync("status").code == 0
    new = auth.sign_up_email("new@example.com")
    assert ids(postgres) == {str(user) for user in (*proposed, new)}
    assert usersync("status", "--json").json["in_step"]
    found = usersync("doctor", "--canary", "--json").json["checks"]
    problems = {each["code"]: each["detail"] for each in found if each["status"] == "problem"}
    # The API roles have access to the table, and its e-mail is UNIQUE although single sign-on allows
    # duplicates.
    assert set(problems) <= {"D010", "D011", "D034"}, problems
    assert usersync("rollback", "--yes").code == 0
    after = {key: body for key, body in catalog().items() if key not in before}
    assert not after


@pytest.mark.slow
def test_why_sync_and_delete_plan_find_the_user(installed, usersync, postgres, auth):
    _, changed, author, _ = installed
    why = usersync("why", changed, "--json").json
    assert (why["has_row"], why["prospect"]) == (True, "nothing")
    postgres.execute('delete from public."User" where id = %s::text', [changed])
    assert usersync("why", changed, "--json").json["prospect"] == "written"
    assert usersync("sync", "--dry-run", "--json").json["missing"] == 1
    assert usersync("sync", "--user", changed).code == 0
    plan = usersync("delete-plan", author, "--json").json
    assert (plan["in_auth"], plan["has_row"]) == (True, True)


def test_events_are_linked_and_erased(installed, usersync, postgres, auth, database):
    first, gone, *_ = installed
    postgres.execute('insert into public."Post" values (%s, %s::text)', ["tracked", first])
    assert usersync("audit", "track", "public.Post").code == 0
    with (
        psycopg.connect(database.dsn()) as connection,
        AuditLog(database.dsn(), spool_dir="spool") as log,
    ):
        for user in (first, gone):
            log.record_in(connection, "post.read", actor_id=str(user), metadata={"email": "ada@example.com"})
        connection.execute("select set_config('usersync.actor_id', %s, true)", [str(gone)])
        connection.execute('update public."Post" set id = %s where id = %s', ["b post", "a post"])
        connection.commit()
    found = usersync("audit", "search", "--user", gone, "--json")
    assert len(found.json["events"]) == 2
    linked = "select count(*) from public.audit_logs where user_id is not null"
    assert postgres.execute(linked).fetchone()[0] == 3
    postgres.execute('delete from public."User" where id = %s::text', [gone])
    assert postgres.execute(linked).fetchone()[0] == 1
    usersync("sync")
    auth.hard_delete(gone)
    erased = usersync("erase", gone, "--yes", "--json")
    assert erased.code == 0, erased.out + erased.err
    addressed = "select actor_id from public.audit_logs where metadata ->> 'email' = 'ada@example.com'"
    assert postgres.execute(addressed).fetchall() == [(str(first),)]


def test_failures_orphans_and_metrics_are_reported(installed, usersync, postgres, auth, superuser):
    rule = "check (email not like 'new%') not valid"
    postgres.execute(f'alter table public."User" add constraint rule {rule}')
    new = auth.sign_up_email("new@example.com")
    assert [each["user_id"] for each in usersync("failures", "--json").json["failures"]] == [str(new)]
    postgres.execute('alter table public."User" drop constraint rule')
    assert usersync("retry").code == 0
    assert str(new) in ids(postgres)
    superuser.execute("set session_replication_role = replica")
    superuser.execute("delete from auth.users where id = %s", [new])
    status = usersync("status", "--json").json
    assert (status["orphaned"], status["users"]) == (0 if load_settings().on_delete == "keep" else 1, 5)
    metrics = usersync("metrics")
    assert metrics.code == 0
    assert "usersync_users" in metrics.out


def test_the_script_installs_the_same_objects(proposed, usersync, postgres, auth):
    postgres.execute(usersync("sql").out)
    assert usersync("plan", "--json").json["changes"] == []
    new = auth.sign_up_email("new@example.com")
    assert str(new) in ids(postgres)
