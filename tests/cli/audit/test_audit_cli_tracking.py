from __future__ import annotations

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy import text as sqlalchemy_text

from usersync import __version__

pytestmark = pytest.mark.newest_server

PRODUCTS = "create table public.products (id int primary key, name text, api_token text, stock int)"


@pytest.fixture
def products(audited):
    audited.project.owner.execute(PRODUCTS)
    return audited


def test_a_dry_run_of_track_shows_the_changes_and_makes_none(products):
    done = products("track", "products", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "Nothing was changed" in done.out
    assert "Redacted: api_token" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert products("tracked", "--json").json["tables"] == []


def test_the_sql_for_a_migration_tracks_the_table(products, audited):
    audited.project.owner.execute('alter table public.products rename name to "100% :name"')
    text = products("track", "products", "--exclude", "stock", "--sql").out
    assert products("tracked", "--json").json["tables"] == []
    engine = create_engine(
        audited.project.database.dsn().replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.execute(sqlalchemy_text(text))
    audited.project.owner.execute("insert into public.products values (1, 'bolt', 's3cret', 5)")
    stored = audited.project.owner.execute("select changes from public.audit_logs").fetchall()
    assert stored == [({"id": [None, 1], "100% :name": [None, "bolt"], "api_token": [None, "[redacted]"]},)]
    assert products("tracked").code == 0
    again = products("track", "products", "--exclude", "stock", "--sql")
    assert again.out == f"-- usersync {__version__}: row tracking of public.products: nothing to change\n"
    audited.project.owner.execute(products("untrack", "products", "--sql").out)
    assert products("tracked", "--json").json["tables"] == []


def test_a_table_is_tracked_and_untracked(products):
    done = products("track", "products", "--exclude", "name", "--json")
    assert done.code == 0
    assert done.json["columns"] == ["id", "api_token", "stock"]
    products.project.owner.execute("insert into public.products values (1, 'bolt', 's3cret', 5)")
    stored = products.project.owner.execute(
        "select action, changes from public.audit_logs order by recorded_at"
    ).fetchall()
    assert stored == [
        ("usersync.table_tracked", None),
        ("products.inserted", {"id": [None, 1], "stock": [None, 5], "api_token": [None, "[redacted]"]}),
    ]
    shown = products("tracked")
    assert shown.code == 0
    assert "public.products  current  key id" in shown.out
    assert "api_token (redacted)" in shown.out
    again = products("track", "products", "--exclude", "name")
    assert "Nothing to change" in again.out
    gone = products("untrack", "products")
    assert gone.code == 0
    assert "no longer recorded" in gone.out
    assert products("untrack", "products").code == 1
    assert "no table is tracked" in products("tracked").out


def test_a_table_altered_after_track_is_reported_as_stale(products):
    products("track", "products", "--exclude", "name")
    products.project.owner.execute("alter table public.products add column colour text")
    done = products("tracked")
    assert done.code == 1
    assert "stale" in done.out
    assert "colour" in done.out
    assert "usersync audit track public.products --exclude name" in done.out
    products(*done.out.splitlines()[-1].split()[2:])
    assert products("tracked").code == 0
    assert "name" not in products("tracked", "--json").json["tables"][0]["columns"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["track", "nothing"], "there is no table public.nothing"),
        (["track", "products", "--columns", "colour"], "has no column colour"),
        (["track", "products", "--exclude", "id"], "part of the key"),
        (["track", "public.audit_logs"], "again, without end"),
    ],
)
def test_the_error_explains_why_a_table_cannot_be_tracked(products, arguments, words):
    done = products(*arguments)
    assert done.code == 2
    assert words in done.err


@pytest.mark.slow
def test_rollback_drops_the_log_only_on_request(audited):
    audited.record("product.created")
    dsn = audited.project.database.dsn()
    audited.log.close()
    kept = audited.call("rollback", "--yes", "--dsn", dsn)
    assert kept.code == 0
    assert "table public.audit_logs stays" in kept.out
    assert "no longer append-only" in kept.out
    assert all(len(line) <= 80 for line in kept.out.splitlines())
    audited.call("apply", "--yes", "--no-trial", "--dsn", dsn)
    gone = audited.call("rollback", "--yes", "--drop-audit-log", "--dsn", dsn)
    assert gone.code == 0
    found = audited.project.owner.execute("select to_regclass('public.audit_logs')").fetchone()
    assert found == (None,)
