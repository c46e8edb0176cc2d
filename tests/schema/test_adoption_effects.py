"""A hand-written trigger is replaced only if usersync reproduces each of its effects."""

from __future__ import annotations

import pytest

from usersync.config.settings import parse_settings
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

PROFILES = "create table public.profiles (id uuid primary key references auth.users on delete cascade, {});"
INSERT = "insert into public.profiles (id, full_name) values (new.id, new.raw_user_meta_data->>'full_name')"
FULL_NAME = {"full_name": {"from": "user_metadata.full_name", "owner": "app"}}


def function(name, body):
    return (
        f"create function public.{name}() returns trigger language plpgsql security definer as $$ "
        f"begin {body}; return coalesce(new, old); end $$;"
    )


def trigger(name, on, of, condition=""):
    fires = f"after {on} on auth.users for each row {condition}"
    return f"create trigger {name} {fires} execute function public.{of}();"


@pytest.fixture
def plan_adoption(installer):
    """The triggers that ``apply --adopt`` would replace, and the effects of the others."""

    def plan(columns, *scripts, **settings):
        for script in scripts:
            installer.connection.execute(script)
        parsed = parse_settings({"users_table": "public.profiles", "columns": columns, **settings})
        planned = run(installation.plan(parsed, adopt=True), installer.connection)
        adopted = {
            each.subject.split()[1] for each in planned.changes if each.reason.startswith("usersync does")
        }
        stays = {each.subject.split()[1]: each.hint or "" for each in planned.findings if each.code == "D005"}
        return adopted, stays

    return plan


UPSERT = f"{INSERT} on conflict (id) do update set full_name = excluded.full_name"


@pytest.mark.parametrize("owner", ["auth", "app"])
def test_a_column_that_the_trigger_keeps_equal_must_be_mirrored(plan_adoption, owner):
    """The trigger fires AFTER INSERT OR UPDATE, and updates full_name ON CONFLICT."""
    adopted, stays = plan_adoption(
        {"full_name": {"from": "user_metadata.full_name", "owner": owner}},
        PROFILES.format("full_name text"),
        function("make", UPSERT),
        trigger("make", "insert or update", "make"),
    )
    assert adopted == ({"make"} if owner == "auth" else set())
    if owner == "app":
        assert "keeps full_name equal to the auth server's, and the settings do not" in stays["make"]


def test_an_insert_trigger_alone_keeps_no_column_equal(plan_adoption):
    adopted, _ = plan_adoption(
        FULL_NAME,
        PROFILES.format("full_name text"),
        function("make", UPSERT),
        trigger("make", "insert", "make"),
    )
    assert adopted == {"make"}


def test_two_triggers_that_work_together_stay_together(plan_adoption):
    """One trigger inserts the row AFTER INSERT, the other raises AFTER UPDATE if there is no row."""
    adopted, stays = plan_adoption(
        FULL_NAME,
        PROFILES.format("full_name text"),
        function("make", INSERT),
        function(
            "follow",
            "update public.profiles set full_name = full_name where id = new.id; "
            "if not found then raise exception 'no profile'; end if",
        ),
        trigger("make", "insert", "make"),
        trigger("follow", "update", "follow"),
    )
    assert adopted == set()
    assert "works together with follow, which stays" in stays["make"]


@pytest.mark.parametrize("does", ["do update set id = excluded.id", "do nothing"])
def test_on_conflict_of_another_column_prevents_replacement(plan_adoption, does):
    """ON CONFLICT (email) DO UPDATE SET id = excluded.id takes over the row of an invited user."""
    adopted, stays = plan_adoption(
        {"email": "email"},
        "create table public.profiles (id uuid primary key default gen_random_uuid(), email text unique)",
        function(
            "make",
            f"insert into public.profiles (id, email) values (new.id, new.email) on conflict (email) {does}",
        ),
        trigger("make", "insert", "make"),
    )
    assert adopted == set()
    wanted = "takes over the row of another user" if "update" in does else "creates no row"
    assert f"{wanted} that has the same email" in stays["make"]


def test_a_column_set_to_now_that_is_not_mapped_prevents_replacement(plan_adoption):
    """The triggers set terms_accepted_at = now() at a sign-up and last_login_at = now() at a sign-in."""
    adopted, stays = plan_adoption(
        {},
        PROFILES.format("terms_accepted_at timestamptz, last_login_at timestamptz"),
        function("make", "insert into public.profiles (id, terms_accepted_at) values (new.id, now())"),
        function("seen", "update public.profiles set last_login_at = now() where id = new.id"),
        trigger("make", "insert", "make"),
        trigger("seen", "update of last_sign_in_at", "seen"),
    )
    assert adopted == set()
    assert "fills terms_accepted_at, which is not mapped" in stays["make"]


@pytest.mark.parametrize(
    ("sets", "entry"), [("now()", {"expression": "now()"}), ("'active'", {"value": "active"})]
)
def test_a_trigger_for_updates_stays_if_its_column_is_mapped_for_new_rows_only(plan_adoption, sets, entry):
    """The column is set at each sign-in, but mapped as a value that only a new row gets."""
    adopted, _ = plan_adoption(
        {"last": entry},
        PROFILES.format("last text"),
        function("make", "insert into public.profiles (id) values (new.id)"),
        function("seen", f"update public.profiles set last = {sets} where id = new.id"),
        trigger("make", "insert", "make"),
        trigger("seen", "update of last_sign_in_at", "seen"),
    )
    assert adopted == {"make"}


def test_now_may_be_a_mapped_expression_or_the_column_default(plan_adoption):
    adopted, _ = plan_adoption(
        {"terms_accepted_at": {"expression": "now()"}},
        PROFILES.format("terms_accepted_at timestamptz, made_at timestamptz default now()"),
        function(
            "make",
            "insert into public.profiles (id, terms_accepted_at, made_at) values (new.id, now(), now())",
        ),
        trigger("make", "insert", "make"),
    )
    assert adopted == {"make"}


def test_a_time_that_the_tables_own_trigger_sets_requires_no_mapping(plan_adoption):
    adopted, _ = plan_adoption(
        {"full_name": "user_metadata.full_name"},
        PROFILES.format("full_name text, updated_at timestamptz default now()"),
        "create function public.touch() returns trigger language plpgsql as "
        "'begin new.updated_at := now(); return new; end';"
        "create trigger touch before update on public.profiles for each row execute function public.touch()",
        function("make", f"{UPSERT}, updated_at = now()"),
        trigger("make", "insert or update", "make"),
    )
    assert adopted == {"make"}


WRITTEN_VALUES = {
    "the same": ("'client'", {"value": "client"}, True),
    "another constant": ("'client'", {"value": "admin"}, False),
    "the same expression": ("left(new.id::text, 8)", {"expression": "left(id::text, 8)"}, True),
    "not mapped": ("'client'", None, False),
    "the table's default": ("'member'", None, True),
}


@pytest.mark.parametrize("how", WRITTEN_VALUES)
def test_constants_and_expressions_are_compared(plan_adoption, how):
    """The trigger sets role to a constant or to an expression."""
    written, entry, is_copy = WRITTEN_VALUES[how]
    adopted, _ = plan_adoption(
        {"role": entry} if entry else {},
        PROFILES.format("role text default 'member'"),
        function("make", f"insert into public.profiles (id, role) values (new.id, {written})"),
        trigger("make", "insert", "make"),
    )
    assert adopted == ({"make"} if is_copy else set())


@pytest.mark.parametrize(
    ("statement", "on_delete", "is_copy"),
    [
        ("delete from public.profiles where id = old.id", "delete", True),
        ("delete from public.profiles where id = old.id", "anonymize", False),
        ("update public.profiles set deleted_at = now() where id = old.id", "soft", True),
        ("update public.profiles set deleted_at = now() where id = old.id", "keep", False),
    ],
)
def test_the_effect_of_a_deletion_must_equal_on_delete(plan_adoption, statement, on_delete, is_copy):
    adopted, _ = plan_adoption(
        {"deleted_at": {"from": "deleted_at", "owner": "app"}},
        "create table public.profiles (id uuid primary key, deleted_at timestamptz)",
        function("gone", statement),
        trigger("gone", "delete", "gone"),
        on_delete=on_delete,
    )
    assert adopted == ({"gone"} if is_copy else set())


def test_a_row_inserted_at_confirmation_conflicts_with_the_row_of_usersync(plan_adoption):
    """The INSERT runs AFTER UPDATE when the e-mail is confirmed, and violates the primary key."""
    _, stays = plan_adoption(
        FULL_NAME,
        PROFILES.format("full_name text"),
        function("make", INSERT),
        trigger(
            "confirmed",
            "update",
            "make",
            "when (old.email_confirmed_at is null and new.email_confirmed_at is not null)",
        ),
    )
    assert "on conflict" in stays["confirmed"]
