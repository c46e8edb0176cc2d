"""P2: after each change of a user the row is in sync, or the failures table says why it is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from usersync.gotrue.removal import obfuscated

pytestmark = pytest.mark.key_types

RECORDER = """
    create table public.seen (n bigint generated always as identity, op text, holds jsonb);
    create function public.see() returns trigger language plpgsql as $$ begin
      insert into public.seen (op, holds) values (tg_op, case when tg_op <> 'DELETE' then to_jsonb(new) end);
      return null; end $$;
    create trigger see after insert or update or delete on {users} for each row execute function public.see()
"""


@pytest.fixture
def writes(sql):
    """The writes to the users table since the last call, one letter each: I, U or D."""
    sql(RECORDER)

    def since():
        rows = sql("select left(op, 1) from public.seen order by n")
        sql("truncate public.seen")
        return "".join(letter for (letter,) in rows)

    return since


def test_each_change_of_a_user_with_an_email_is_copied(project, writes, sync_failures):
    auth, row = project.auth, project.row
    user = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"}, autoconfirm=False)
    assert (row(user)["email"], row(user)["full_name"]) == ("ada@example.com", "Ada")
    assert row(user)["email_confirmed_at"] is None
    assert writes() == "I"
    auth.confirm(user)
    assert row(user)["email_confirmed_at"] == auth.user(user)["email_confirmed_at"]
    assert writes() == "U"
    for step in (auth.sign_in, auth.refresh_token, auth.sign_in_oauth):
        step(user)
        assert writes() == "", step
    auth.request_email_change(user, "new@example.com")
    auth.confirm_email_change(user)
    assert row(user)["email"] == "ada@example.com"
    assert writes() == ""
    auth.confirm_email_change(user)
    assert row(user)["email"] == "new@example.com"
    assert writes() == "U"
    auth.change_phone(user, "15550001")
    assert row(user)["phone"] == "15550001"
    auth.ban(user, timedelta(days=1))
    assert row(user)["banned_until"] == auth.user(user)["banned_until"] is not None
    auth.unban(user)
    assert row(user)["banned_until"] is None
    auth.update_user_metadata(user, full_name=None, name="Ada L.")
    assert row(user)["full_name"] == "Ada L."
    assert sync_failures() == {}


def test_each_kind_of_sign_up_copies_the_values_that_it_has(project, writes, sync_failures):
    auth, row = project.auth, project.row
    phone = auth.sign_up_phone("15550002")
    assert (row(phone)["phone"], row(phone)["email"]) == ("15550002", None)
    assert row(phone)["phone_confirmed_at"]
    assert writes() == "IU"
    nameless = auth.sign_up_oauth("github", "git@example.com", name=None)
    assert (row(nameless)["email"], row(nameless)["full_name"]) == ("git@example.com", None)
    assert writes() == "IU"
    bare = auth.sign_up_oauth("twitter", shares_email=False)
    assert (row(bare)["email"], row(bare)["full_name"]) == (None, "Ada Lovelace")
    twins = [auth.sign_up_sso("git@example.com") for _ in range(2)]
    assert [row(twin)["email"] for twin in twins] == ["git@example.com"] * 2
    invited = auth.invite("guest@example.com")
    assert row(invited)["email"] == "guest@example.com"
    writes()
    made = auth.admin_create(
        "made@example.com", role="editor", app_metadata={"plan": "pro"}, ban=timedelta(hours=1)
    )
    assert row(made)["banned_until"]
    assert row(made)["email_confirmed_at"]
    assert writes() == "IUU"
    assert sync_failures() == {}


def test_an_anonymous_user_becomes_permanent_under_the_same_id(project, writes, sync_failures):
    auth, row = project.auth, project.row
    user = auth.sign_up_anonymous()
    assert (row(user)["is_anonymous"], row(user)["email"]) == (True, None)
    assert writes() == "I"
    auth.make_permanent(user, "ada@example.com")
    assert (row(user)["is_anonymous"], row(user)["email"]) == (False, "ada@example.com")
    assert sync_failures() == {}


def test_unlinking_an_identity_copies_the_new_email_and_phone(project):
    auth, row = project.auth, project.row
    user = auth.sign_up_email("ada@example.com")
    auth.link_identity(user, "github", email="git@example.com")
    auth.change_phone(user, "15550003")
    auth.unlink_identity(user, "email")
    assert row(user)["email"] == auth.user(user)["email"]
    assert row(user)["phone"] == auth.user(user)["phone"]


POLICIES = [
    pytest.param(policy, marks=pytest.mark.settings(on_delete=policy))
    for policy in ("anonymize", "soft", "keep", "delete")
]


@pytest.mark.parametrize("shape", ["hard_delete", "soft_delete"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_deletion_changes_the_row_as_its_policy_says(project, writes, sql, policy, shape):
    auth, row = project.auth, project.row
    email, phone = "ada@example.com", "15550004"
    user = auth.admin_create(email, phone=phone, user_metadata={"full_name": "Ada"})
    before = row(user)
    writes()
    getattr(auth, shape)(user)
    after = row(user)
    seen = str(sql("select holds from public.seen"))
    # No write copied a hash of the soft deletion, and no hash of an empty value.
    for value in (email, phone, "", None):
        assert obfuscated(user, value)[:15] not in seen
    if policy == "delete":
        assert after is None
    elif policy == "keep":
        assert (after, writes()) == (before, "")
    else:
        personal = {"email", "phone", "full_name", "avatar_url"} if policy == "anonymize" else set()
        assert after["deleted_at"]
        assert {name for name in after if after[name] != before[name]} - {"deleted_at"} == {
            name for name in personal if before[name] is not None
        }
        assert writes() == "U"
    again = auth.sign_up_again(email)
    assert again != user
    assert row(again)["email"] == email
    assert project.client.status().in_step


@pytest.mark.parametrize("kind", ["sign_up_phone", "sign_up_anonymous", "sign_up_oauth"])
def test_a_soft_deletion_copies_no_hash_of_an_empty_email_or_phone(project, kind):
    user = getattr(project.auth, kind)()
    project.auth.soft_delete(user)
    assert project.auth.user(user)["email"]
    assert (project.row(user)["email"], project.row(user)["phone"]) == (None, None)


@pytest.mark.parametrize("size", ["text", "varchar(64)", "varchar(30)"])
def test_a_not_null_column_of_a_deleted_users_row_holds_a_placeholder(project, sql, sync_failures, size):
    sql(f"alter table {{users}} alter column {{email}} type {size}, alter column {{email}} set not null,"
        " add unique ({email})")  # fmt: skip
    users = [project.auth.sign_up_email(f"ada{n}@example.com") for n in range(2)]
    project.auth.hard_delete(users[0])
    project.auth.soft_delete(users[1])
    placeholders = [project.row(user)["email"] for user in users]
    assert all(text.startswith("deleted-") for text in placeholders)
    assert placeholders[0] != placeholders[1]
    assert sync_failures() == {}
    assert project.client.status().in_step


@pytest.mark.newest_server
@pytest.mark.settings(
    columns={
        "mood": {"from": "user_metadata.mood", "type": "public.mood"},
        "age": {"from": "user_metadata.age", "type": "integer"},
        "other": {"from": "user_metadata.other", "type": "uuid"},
        "settings": {"from": "user_metadata.settings", "type": "jsonb"},
        "born": {"from": "user_metadata.born", "type": "date"},
        "fan": {"from": "user_metadata.fan", "type": "boolean"},
        "deleted_at": "deleted_at",
    }
)
def test_a_placeholder_fits_each_common_type(typed_project, sync_failures):
    project = typed_project
    names = ("mood", "age", "other", "settings", "born", "fan")
    for name in names:
        project.owner.execute(f"alter table {project.users} alter column {name} set not null")
    data = {"mood": "sad", "age": 36, "other": "0" * 32, "settings": [1], "born": "1815-12-10", "fan": True}
    user = project.auth.sign_up_email(data=data)
    assert project.row(user)["age"] == 36
    project.auth.hard_delete(user)
    row = project.row(user)
    assert (row["mood"], row["age"], row["other"], row["settings"]) == ("glad", 0, user, {})
    assert (str(row["born"]), row["fan"]) == ("1970-01-01", False)
    assert sync_failures() == {}


@pytest.fixture
def typed_project(request, database_with_mood):
    return request.getfixturevalue("project")


@pytest.fixture
def database_with_mood(cluster, monkeypatch):
    """The application's type must exist before usersync creates its table."""
    clone = type(cluster).clone

    def with_mood(self, template):
        database = clone(self, template)
        with database.connect("postgres") as owner:
            # A clone of such a database has the type already.
            if owner.execute("select to_regtype('public.mood') is null").fetchone()[0]:
                owner.execute("create type public.mood as enum ('glad', 'sad')")
        return database

    monkeypatch.setattr(type(cluster), "clone", with_mood)


def test_a_trigger_that_prevents_anonymizing_a_row_is_a_sync_failure(project, sql, sync_failures, healed):
    user = project.auth.sign_up_email("ada@example.com")
    sql("create function public.hook() returns trigger language plpgsql as 'begin return null; end'")
    sql("create trigger hook before update on {users} for each row execute function public.hook()")
    project.auth.hard_delete(user)
    assert (sync_failures()[user].sqlstate, sync_failures()[user].outcome) == ("US002", "failed")
    sql("drop function public.hook() cascade")
    healed()
    assert project.row(user)["email"] is None


REFUSALS = {
    "a name too long for an index": ("create index on {users} ({full_name})", "54000"),
    "a trigger that raises insufficient_privilege": (
        """
        create function public.hook() returns trigger language plpgsql as $$ begin
          if length(new.{full_name}) > 9000 then raise insufficient_privilege; end if; return new; end $$;
        create trigger hook before insert or update on {users} for each row execute function public.hook()
        """,
        "42501",
    ),
}


@pytest.mark.parametrize(("fault", "sqlstate"), REFUSALS.values(), ids=REFUSALS)
def test_one_refused_row_does_not_affect_the_other_users(project, sql, sync_failures, fault, sqlstate):
    sql(fault)
    # Random text, because PostgreSQL would compress other text until it fits.
    long_name = "(select string_agg(md5(random()::text), '') from generate_series(1, 400))"
    ids = [
        user
        for (user,) in sql(
            "insert into auth.users (id, email, raw_user_meta_data) select gen_random_uuid(), 'u' || n,"
            f" jsonb_build_object('name', case n when 7 then {long_name} else 'short' end)"
            " from generate_series(1, 20) as n returning id"
        )
    ]
    assert {user: each.sqlstate for user, each in sync_failures().items()} == {ids[6]: sqlstate}
    # In the auth server's transaction a trigger that has raised is not called again for the same user.
    assert sync_failures()[ids[6]].outcome == ("failed" if sqlstate == "42501" else "degraded")
    sql("delete from {users}")
    project.client.reconcile()
    assert [user for user in ids if project.row(user)["full_name"] != "short"] == [ids[6]]


MAPPED = ("email", "phone", "raw_user_meta_data", "is_anonymous", "banned_until", "created_at", "deleted_at")
WIDER = {"email": "text", "phone": "varchar(90)", "raw_user_meta_data": "json", "is_anonymous": "text"}


def write_auth_users(connection):
    """INSERT, UPDATE and DELETE on auth.users, with none of the columns that the test alters."""
    connection.execute("insert into auth.users (id) values (gen_random_uuid())")
    connection.execute("update auth.users set updated_at = now()")
    connection.execute("delete from auth.users where id not in (select id from auth.users limit 1)")


@pytest.mark.parametrize("change", ["alter column {} type {}", "rename column {} to other", "drop column {}"])
def test_migrations_of_auth_users_and_later_sign_ups_succeed(project, change):
    """No object of usersync depends on a column of auth.users other than id (supabase/auth#994)."""
    connection = project.auth.connection
    project.auth.sign_up_email()
    for column in MAPPED:
        with connection.transaction(force_rollback=True):
            wider = WIDER.get(column, "timestamp")
            if (column, change[:5]) == ("is_anonymous", "alter"):
                connection.execute("alter table auth.users alter column is_anonymous drop default")
                wider += " using 'false', alter column is_anonymous set default 'false'"
            connection.execute("alter table auth.users " + change.format(column, wider))
            write_auth_users(connection)
        write_auth_users(connection)


@pytest.mark.parametrize("column", ["email", "raw_user_meta_data", "deleted_at"])
def test_a_renamed_column_of_auth_users_is_a_sync_failure(project, sql, sync_failures, healed, column):
    connection = project.auth.connection
    old = project.auth.sign_up_email("old@example.com")
    connection.execute(f"alter table auth.users rename column {column} to renamed")
    connection.execute("update auth.users set updated_at = now() where id = %s", [old])
    (new,) = connection.execute(
        "insert into auth.users (id) values (gen_random_uuid()) returning id"
    ).fetchone()
    assert {each.sqlstate for each in sync_failures().values()} == {"42703"}
    assert set(sync_failures()) == {old, new}
    connection.execute(f"alter table auth.users rename column renamed to {column}")
    healed()


def test_an_open_session_copies_changes_after_a_column_type_changed(project, sync_failures):
    user = project.auth.sign_up_email("ada@example.com")
    project.auth.change_email(user, "b@example.com")
    project.auth.connection.execute("alter table auth.users alter column email type text")
    project.auth.change_email(user, "c@example.com")
    assert project.row(user)["email"] == "c@example.com"
    assert sync_failures() == {}
