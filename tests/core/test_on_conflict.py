"""``on_conflict``: what is stored if another user already has the value of a unique column."""

from __future__ import annotations

import re

import pytest

from usersync.config.settings import parse_settings
from usersync.errors import SettingsError

COLUMNS = {
    "email": {"from": "email", "on_conflict": "null"},
    "username": {
        "from": "user_metadata.username",
        "default": "user",
        "owner": "app",
        "on_conflict": "suffix",
    },
    "full_name": "user_metadata.full_name",
    "deleted_at": "deleted_at",
}
pytestmark = [pytest.mark.settings(columns=COLUMNS), pytest.mark.newest_server]

UNIQUE = "alter table {users} add unique (email); create unique index named on {users} (lower(username))"


@pytest.fixture
def unique(sql):
    sql(UNIQUE)
    sql("alter table {users} alter column username set not null")


def username(project, user):
    return project.row(user)["username"]


def test_suffix_makes_the_value_unique_and_the_row_complete(project, sync_failures, unique):
    users = [project.auth.sign_up_email(data={"username": "Ada", "full_name": "Ada L."}) for _ in range(3)]
    names = [username(project, user) for user in users]
    assert names[0] == "Ada"
    assert [bool(re.fullmatch(r"Ada_[0-9a-f]{4}", name)) for name in names[1:]] == [True, True]
    assert names[1] == f"Ada_{str(users[1])[:4]}"
    assert {project.row(user)["full_name"] for user in users} == {"Ada L."}
    assert sync_failures() == {}
    assert project.client.status().in_step


def test_suffix_makes_a_shared_default_unique(project, sync_failures, unique):
    users = project.auth.import_users(30)
    names = {username(project, user) for user in users}
    assert len(names) == 30
    assert "user" in names
    assert sync_failures() == {}


def test_a_longer_suffix_is_used_if_the_short_one_is_taken(project, sync_failures, unique):
    first = project.auth.sign_up_email(data={"username": "ada"})
    # Another user already has the name that the short suffix would give.
    ids = [f"abcd1234-0000-4000-8000-00000000000{number}" for number in range(3)]
    project.auth.sign_up_email(data={"username": "ada_abcd"}, user_id=ids[0])
    for user in ids[1:]:
        project.auth.sign_up_email(data={"username": "ADA"}, user_id=user)
    names = [username(project, user) for user in (first, *ids)]
    assert names == ["ada", "ada_abcd", "ADA_abcd1234", "ADA_abcd1234000040008000000000000002"]
    assert sync_failures() == {}


@pytest.mark.slow
def test_a_value_with_a_suffix_fits_the_column_length(project, sync_failures, sql, unique):
    sql("alter table {users} alter column username type varchar(8)")
    users = [project.auth.sign_up_email(data={"username": "ada_lov"}) for _ in range(2)]
    assert [username(project, user) for user in users] == ["ada_lov", f"ada_{str(users[1])[:4]}"[:8]]
    assert sync_failures() == {}


def test_null_degrades_the_row_until_the_other_user_is_deleted(project, sync_failures, healed, sql, unique):
    first = project.auth.sign_up_sso("ada@example.com", claims={"full_name": "First"})
    second = project.auth.sign_up_sso("ada@example.com", claims={"full_name": "Second"})
    row = project.row(second)
    assert (row["email"], row["username"]) == (None, f"user_{str(second)[:4]}")
    assert row["full_name"] == "Second"
    failure = sync_failures()[second]
    assert (failure.outcome, failure.sqlstate, failure.column) == ("degraded", "23505", "email")
    project.auth.update_user_metadata(second, full_name="Changed")
    assert project.row(second)["full_name"] == "Changed"
    versions = sql("select xmin::text from {users} order by 1")
    project.client.reconcile()
    assert list(sync_failures()) == [second]
    assert sql("select xmin::text from {users} order by 1") == versions
    project.auth.hard_delete(first)
    healed()
    assert project.row(second)["email"] == "ada@example.com"


def test_a_change_to_a_taken_value_empties_the_column(project, sync_failures, unique):
    project.auth.sign_up_sso("ada@example.com")
    user = project.auth.sign_up_email("bea@example.com", data={"username": "bea"})
    project.auth.connection.execute(
        "update auth.users set email = 'ada@example.com', is_sso_user = true where id = %s", [user]
    )
    assert project.row(user)["email"] is None
    assert username(project, user) == "bea"
    assert sync_failures()[user].column == "email"


def test_a_conflict_in_a_column_without_on_conflict_degrades_the_row(project, sync_failures, sql, unique):
    sql("alter table {users} add unique (full_name)")
    users = [project.auth.sign_up_email(data={"full_name": "Ada"}) for _ in range(2)]
    row = project.row(users[1])
    assert (row["full_name"], row["username"]) == (None, f"user_{str(users[1])[:4]}")
    assert (sync_failures()[users[1]].sqlstate, sync_failures()[users[1]].column) == ("23505", "full_name")


def test_a_value_that_violates_a_check_with_its_suffix_is_not_written(project, sync_failures, sql, unique):
    sql("alter table {users} add constraint short check (length(username) < 6)")
    users = [project.auth.sign_up_email(data={"username": "ada_l"}) for _ in range(2)]
    assert project.row(users[1]) is None
    assert (sync_failures()[users[1]].outcome, sync_failures()[users[1]].sqlstate) == ("failed", "23505")


def test_each_user_of_an_import_gets_a_unique_name(project, sync_failures, unique):
    users = project.auth.import_users(40, domain="a.example.com")
    project.owner.execute(f"delete from {project.users}")
    project.client.reconcile(page_size=7)
    assert len({username(project, user) for user in users}) == 40
    assert sync_failures() == {}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"from": "email", "on_conflict": "suffix"}, 'Add owner = "app"'),
        ({"from": "created_at", "owner": "app", "on_conflict": "suffix"}, "requires a text column"),
        ({"from": "email", "on_conflict": "overwrite"}, "is none of"),
        ({"from": "email", "on_conflict": None}, "is none of"),
    ],
)
def test_an_unsupported_policy_is_rejected(entry, words):
    with pytest.raises(SettingsError, match=r"columns\.x\.on_conflict") as caught:
        parse_settings({"columns": {"x": entry}})
    assert words in f"{caught.value} {caught.value.hint}"
