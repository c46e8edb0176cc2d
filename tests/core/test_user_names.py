"""Searching users by name, with each kind of index or in the first rows of the table."""

from __future__ import annotations

import pytest

from usersync.core import user_names
from usersync.core.user_names import find_by_name
from usersync.core.why import find_users
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

INDEXES = [
    ("(lower(full_name) text_pattern_ops)", "begins with"),
    ("(full_name text_pattern_ops)", "begins with"),
    ("(lower(full_name))", "is"),
    ("(full_name)", "is"),
]


@pytest.fixture
def users_by_name(project, monkeypatch):
    monkeypatch.setattr(user_names, "_LIMIT_MS", 60_000)
    names = ("Ada Lovelace", "Grace Hopper", "100%_sure", "Adam")
    return {
        name: project.auth.sign_up_email(f"user{n}@example.com", data={"full_name": name})
        for n, name in enumerate(names)
    }


def search(project, text):
    found = run(find_by_name(project.settings, text), project.owner)
    return found, {each.name for each in found.users}


def test_a_name_is_found_with_each_kind_of_index(project, users_by_name):
    indexes = list(INDEXES)
    if project.owner.execute("select from pg_available_extensions where name = 'pg_trgm'").fetchone():
        project.owner.execute("create extension pg_trgm schema extensions")
        indexes.append(("using gin (full_name extensions.gin_trgm_ops)", "contains"))
    for definition, matches in indexes:
        project.owner.execute(f"create index named on public.users {definition}")
        with project.database.connect("supabase_admin") as superuser:
            # PostgreSQL does not use a new index of updated rows while an older transaction runs.
            superuser.execute(
                "update pg_index set indcheckxmin = false where indexrelid = 'public.named'::regclass"
            )
        found, names = search(project, "Ada Lovelace")
        assert (names, found.matches, found.read) == ({"Ada Lovelace"}, matches, None), definition
        assert found.users[0].user_id == users_by_name["Ada Lovelace"]
        expected = {"contains": {"Ada Lovelace"}, "begins with": set(), "is": set()}[matches]
        assert search(project, "Lovelace")[1] == expected
        assert search(project, "100%_sure")[1] == {"100%_sure"}
        assert search(project, "_00%")[1] == set()
        project.owner.execute("drop index named")


def test_without_an_index_only_the_first_rows_are_read(project, users_by_name, monkeypatch):
    found, names = search(project, "ada")
    assert (names, found.read, found.is_cut) == ({"Ada Lovelace", "Adam"}, 4, False)
    monkeypatch.setattr(user_names, "MOST_READ", 3)
    found, _ = search(project, "nobody")
    assert (found.users, found.read, found.is_cut) == ((), 3, True)
    assert "only the first 3 rows of the table were read" in user_names.note(found)
    assert run(find_by_name(project.settings, "x"), project.owner) is None


def test_an_email_is_found_with_the_index_of_auth_users(project, users_by_name):
    """Also for a user with another instance_id, or with none."""
    owner = project.owner
    owner.execute("set enable_seqscan = off")
    users = list(users_by_name.values())
    with project.database.connect("supabase_auth_admin") as auth:
        auth.execute("update auth.users set instance_id = null where id = %s", [users[0]])
        auth.execute("update auth.users set instance_id = gen_random_uuid() where id = %s", [users[1]])
    for number, user in enumerate(users[:3]):
        assert run(find_users(project.settings, f"USER{number}@example.com"), owner) == [user]
    assert run(find_users(project.settings, "nobody@example.com"), owner) == []
    step = next(find_users(project.settings, "user0@example.com"))
    plan = "\n".join(row for (row,) in owner.execute(f"explain {step.sql}", step.params))
    assert "Seq Scan" not in plan
    assert "users_instance_id_email_idx" in plan
