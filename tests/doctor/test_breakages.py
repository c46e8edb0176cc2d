"""For each breakage, doctor notices it, the pasted fixes repair it, and no data is lost."""

from __future__ import annotations

import json
import shlex
from itertools import groupby

import psycopg
import pytest
from breakages import BREAKAGES

from audit_settings import TOML, with_audit_log
from usersync.audit.tracking.operations import track
from usersync.audit.tracking.state import TrackOptions
from usersync.cli.main import run as command
from usersync.doctor import examine
from usersync.sql.script import install_script
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

ORDERS = """
    create table public.orders
        (id int primary key, buyer uuid references public.users (id) on delete set null, size int);
    alter table public.orders owner to postgres
"""


WHERE_ROWS_ARE_DELETED = {
    "all of the auth server's users gone": (
        "set session_replication_role = replica; delete from auth.users; reset session_replication_role"
    ),
    "an order that blocks a deletion": (
        "alter table public.orders drop constraint orders_buyer_fkey;"
        "alter table public.orders add foreign key (buyer) references public.users"
    ),
}


@pytest.fixture
def settings(request, names):
    if names != "plain":  # before a database is created for the test
        pytest.skip("the breakages use the names of the default settings")
    return with_audit_log(getattr(request, "param", {}))


@pytest.fixture
def deleting(shop):
    shop.fix_connection.execute(
        "alter table public.orders drop constraint orders_buyer_fkey;"
        "alter table public.orders add foreign key (buyer) references public.users on delete cascade"
    )
    return shop


@pytest.fixture
def shop(checked_as_superuser, tmp_path, monkeypatch):
    """A project with three users, their orders, an audit log, and a tracked table."""
    monkeypatch.chdir(tmp_path)
    policy = json.dumps(checked_as_superuser.settings.on_delete)
    (tmp_path / "usersync.toml").write_text(f"on_delete = {policy}\n{TOML}")
    monkeypatch.setenv("SUPABASE_DB_URL", checked_as_superuser.project.database.dsn())
    project = checked_as_superuser.project
    checked_as_superuser.fix_connection.execute(ORDERS)
    run(
        track(checked_as_superuser.settings, "public.orders", TrackOptions(), lambda *_: False), project.owner
    )
    for number, name in enumerate(("ada", "bob", "cyd")):
        user_id = project.auth.sign_up_email(f"{name}@example.com", data={"full_name": name})
        project.owner.execute("insert into public.orders values (%s, %s, 1)", [number, user_id])
        event = {"action": "order.made", "actor_id": str(user_id)}
        project.owner.execute("select public.record_audit_events(%s::jsonb)", [json.dumps([event])])
    return checked_as_superuser


#: The tables that may lose no row, each with the expression that identifies a row.
DATA = {
    "auth.users": "id",
    "public.users": "id",
    "public.orders": "id",
    "public.audit_logs": "id",
    "usersync.audit_rejects": "(event ->> 'id')",
}


#: The application's functions and triggers, and the functions of tracked tables.
OBJECTS = """
    -- A function that is renamed is not lost.
    select 'function ' || oid from pg_proc
    where pronamespace = 'public'::regnamespace
        and coalesce(obj_description(oid, 'pg_proc'), '') not like 'usersync: %'
    union all
    select 'trigger ' || tgname || ' on ' || tgrelid::regclass from pg_trigger
    where not tgisinternal and tgfoid::regproc::text like 'public.%'
    union all
    select distinct 'tracked ' || substring(proname from '^handle_changes_[a-z]+') from pg_proc
    where pronamespace = to_regnamespace('usersync') and proname like 'handle_changes_%'
"""


def data_of(connection):
    """All rows, by table and key, and the objects of the application and of tracked tables."""
    found = {("object", name): {} for (name,) in connection.execute(OBJECTS).fetchall()}
    for table, key in DATA.items():
        try:
            rows = connection.execute(f"select {key}::text, to_jsonb(t) from {table} as t").fetchall()
        except psycopg.Error:
            connection.rollback()
            continue
        found |= {(table, name): row for name, row in rows}
    return found


def assert_no_data_is_lost(before, after):
    for place, row in before.items():
        assert place in after, f"{place} was removed"
        for column, value in row.items():
            now = after[place].get(column)
            moved = column == "user_id" and after[place]["metadata"].get("original_user_id") == value
            added = column == "metadata" and now.items() >= value.items()
            counted = column in {"reject_id", "rejected_at", "reason", "sqlstate", "fingerprint"}
            assert value is None or now == value or moved or added or counted, f"{place}.{column} was changed"


def failing(shop):
    return {check.code: check for check in run(examine(shop.settings), shop.project.owner) if check.findings}


def paste_all(shop, checks):
    """Paste each fix as printed. A fix may fail."""
    for check in checks:
        lines = (check.fix or "").splitlines()
        for is_command, group in groupby(lines, lambda each: each.startswith("usersync ")):
            for text in group if is_command else ["\n".join(group)]:
                paste(shop, text)


def paste(shop, text):
    if text.startswith("usersync ") and " | " not in text:
        # The person who pastes it answers yes. The trial is slow, and has its own tests.
        arguments = shlex.split(text)[1:]
        command(arguments + (["--yes", "--no-trial"] if arguments[0] == "apply" else []))
        return
    if " | psql" in text:
        text = "\n".join(install_script(shop.settings))
    if any(not line.startswith("--") for line in text.splitlines()):
        try:
            shop.fix_connection.execute(text)
        except psycopg.Error:
            shop.fix_connection.rollback()


@pytest.mark.slow
@pytest.mark.parametrize("how", BREAKAGES)
def test_doctor_notices_the_breakage_and_its_fixes_lose_no_data(shop, how):
    breakage = BREAKAGES[how]
    with psycopg.connect(shop.project.database.dsn("supabase_admin"), autocommit=True) as breaker:
        breaker.execute(breakage.sql.replace("{database}", shop.project.database.name))
    before = data_of(shop.fix_connection)
    left = failing(shop)
    assert breakage.code in left, left
    for _ in range(3 if breakage.fixed_by_pasting else 1):  # fixing one problem may uncover another
        paste_all(shop, left.values())
        left = failing(shop)
        if not left:
            break
    assert_no_data_is_lost(before, data_of(shop.fix_connection))
    assert (not left) == breakage.fixed_by_pasting, left


@pytest.mark.parametrize("settings", [{"on_delete": "delete"}], indirect=True, ids=["delete"])
@pytest.mark.parametrize(
    "how",
    [
        "half of the auth server's users gone",
        "all of the auth server's users gone",
        "a removal that failed",
        "a stale value",
        "a row removed",
        "a run that was killed",
        "all triggers dropped",
        "a key that blocks the auth server",
        "an order that blocks a deletion",
    ],
)
def test_no_fix_deletes_a_row_if_on_delete_is_delete(deleting, how):
    """Orders are deleted with their buyer."""
    shop = deleting
    sql = WHERE_ROWS_ARE_DELETED.get(how) or BREAKAGES[how].sql
    with psycopg.connect(shop.project.database.dsn("supabase_admin"), autocommit=True) as breaker:
        breaker.execute(sql)
    before = data_of(shop.fix_connection)
    left = failing(shop)
    assert left
    for _ in range(3):
        paste_all(shop, left.values())
        left = failing(shop)
    assert_no_data_is_lost(before, data_of(shop.fix_connection))


def test_without_a_breakage_every_check_is_ok(shop):
    assert failing(shop) == {}


def test_the_numbers_of_breakages_and_of_fixed_ones_do_not_fall():
    assert len(BREAKAGES) >= 75
    assert sum(each.code is not None for each in BREAKAGES.values()) == len(BREAKAGES)
    assert sum(each.fixed_by_pasting for each in BREAKAGES.values()) >= 63
