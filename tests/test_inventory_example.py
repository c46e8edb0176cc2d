"""The application of ``examples/inventory``, whose operations record events in three ways."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

from usersync import AuditLog
from usersync.cli.demo.inventory import app, handwritten
from usersync.config.settings import load_settings
from usersync.testing.install import install

pytestmark = pytest.mark.newest_server

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/inventory"


@pytest.fixture
def shop(database):
    """A connection to the application's database, without usersync in it."""
    with database.connect() as connection:
        connection.execute((EXAMPLE / "schema.sql").read_bytes())
        yield connection


@pytest.fixture
def audit(database, shop, tmp_path):
    install(database, load_settings(EXAMPLE / "usersync.toml"))
    with AuditLog(database.dsn(), spool_dir=tmp_path) as log:
        yield log


def events(shop, audit):
    assert audit.flush()
    rows = shop.execute(
        "select action, entity_id, changes, metadata - 'recorded_at' - 'source', user_id "
        "from public.audit_logs order by created_at"
    )
    return rows.fetchall()


def test_without_usersync_an_operation_fails_if_the_user_has_no_row(shop, auth):
    user_id = auth.admin_create("ada@example.com")
    log = handwritten.HandWrittenLog()
    shop.execute("insert into public.products (name, stock) values ('bolt', 10)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), log.context(actor_id=user_id):
        app.adjust_stock(shop, log, 1, -3)
    assert app.list_products(shop) == [{"id": 1, "name": "bolt", "stock": 10}]


def test_each_operation_records_its_event(shop, audit, auth):
    user_id = auth.admin_create("ada@example.com")
    with audit.context(actor_id=user_id):
        product = app.create_product(shop, audit, "bolt", 10)
        assert app.adjust_stock(shop, audit, product, -3) == 7
        assert app.report_count(audit, product, 7)
        with pytest.raises(app.StockLeftError):
            app.delete_product(shop, audit, product)
        app.adjust_stock(shop, audit, product, -7)
        app.delete_product(shop, audit, product)
    found = {
        (action, metadata["outcome"]): (changes, user)
        for action, _, changes, metadata, user in events(shop, audit)
    }
    assert found == {
        ("product.created", "succeeded"): ({"name": [None, "bolt"], "stock": [None, 10]}, user_id),
        ("stock.adjusted", "succeeded"): ({"stock": [7, 0]}, user_id),
        ("stock.counted", "succeeded"): (None, user_id),
        ("product.deleted", "denied"): (None, user_id),
        ("product.deleted", "succeeded"): ({"name": ["bolt", None]}, user_id),
    }
    assert app.list_products(shop) == []


def test_a_failed_operation_records_no_event_of_its_transaction(shop, audit):
    product = app.create_product(shop, audit, "bolt", 1)
    with pytest.raises(psycopg.errors.CheckViolation):
        app.adjust_stock(shop, audit, product, -2)
    assert [action for action, *_ in events(shop, audit)] == ["product.created"]


@pytest.mark.slow
def test_the_example_runs_as_a_command(database, shop, audit, tmp_path):
    environment = {"DATABASE_URL": database.dsn(), "USERSYNC_SPOOL_DIR": str(tmp_path), "HOME": str(tmp_path)}

    def call(*arguments):
        return subprocess.run(
            [sys.executable, EXAMPLE / "app.py", *arguments],
            capture_output=True, text=True, env=environment, check=False, timeout=60,
        )  # fmt: skip

    assert "10  bolt M8" in call("add", "bolt M8", "10").stdout
    assert " 7  bolt M8" in call("move", "1", "-3").stdout
    assert "there are 7 left of bolt M8" in call("remove", "1").stderr
    assert [action for action, *_ in events(shop, audit)] == [
        "product.created",
        "stock.adjusted",
        "product.deleted",
    ]


def test_the_wheel_contains_the_example(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("app.py", "handwritten.py", "schema.sql", "usersync.toml"):
            there = archive.read(f"usersync/cli/demo/inventory/{name}")
            assert there == (EXAMPLE / name).read_bytes()
