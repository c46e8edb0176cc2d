from __future__ import annotations

import uuid

import pytest


@pytest.fixture
def why(usersync, project):
    return lambda *words: usersync("why", *words, "--dsn", project.database.dsn())


def state(project):
    """The data that ``why`` must not change."""
    users = project.owner.execute(
        f"select xmin::text, u::text from {project.users} as u order by 2"
    ).fetchall()
    return users, project.client.failures()


def test_why_reports_a_user_in_sync(why, project):
    user = project.auth.sign_up_email("ada@example.com", data={"full_name": "Ada Lovelace"})
    before = state(project)
    done = why(user)
    assert done.code == 0
    assert "in sync" in done.out
    assert done.out.count("Ada Lovelace") == 2
    assert "signed up just now" in done.out or "signed up 1" in done.out
    assert "Nothing: the row is in sync." in done.out
    assert state(project) == before


@pytest.mark.newest_server
def test_a_user_is_found_by_email_and_phone_number(why, project):
    user = project.auth.sign_up_email("ada@example.com")
    assert why("ADA@example.com", "--json").json["user_id"] == str(user)
    phone = project.auth.sign_up_phone("15550001")
    assert why("+15550001", "--json").json["user_id"] == str(phone)
    nobody = why("nobody@example.com")
    assert nobody.code == 1
    assert "no user in auth.users has this e-mail address or phone number" in nobody.err
    unknown = why(uuid.uuid4())
    assert unknown.code == 1
    assert "no user" in unknown.err
    project.auth.sign_up_sso("ada@example.com")
    several = why("ada@example.com")
    assert several.code == 2
    assert "2 users have this e-mail address" in several.err
    assert str(user) in several.err


@pytest.mark.newest_server
def test_a_user_is_found_by_name(why, usersync, project):
    ada, _ = (
        project.auth.sign_up_email(f"{name}@example.com", data={"full_name": f"{name} Smith"})
        for name in ("ada", "bob")
    )
    assert why("Ada S", "--json").json["user_id"] == str(ada)
    several = why("smith")
    assert several.code == 2
    assert "2 users found by name:" in several.err
    assert f"{ada} ada Smith" in several.err
    # Commands that write do not accept a name.
    assert usersync("erase", "ada smith", "--yes", "--dsn", project.database.dsn()).code == 1


def test_why_shows_the_difference_of_a_changed_row(why, project):
    user = project.auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    project.owner.execute(f"update {project.users} set {project.column('full_name')} = 'Eve' where true")
    before = state(project)
    done = why(user)
    assert done.code == 1
    assert "out of sync" in done.out
    assert "  differs\n" in done.out
    assert "The row would be written completely." in done.out
    assert f"usersync sync --user {user}" in done.out
    found = why(user, "--json").json
    (column,) = (each for each in found["columns"] if each["differs"])
    assert (column["wanted"], column["stored"], column["would_be"]) == ("Ada", "Eve", "Ada")
    one = why(user, project.columns["full_name"])
    assert one.code == 1
    assert "user_metadata.full_name" in one.out
    assert "The column is mirrored from the auth server, but differs" in one.out
    assert state(project) == before


def test_why_shows_the_reason_of_a_sync_failure(why, project):
    project.owner.execute(f"alter table {project.users} add column team text not null default 'x'")
    project.owner.execute(f"alter table {project.users} alter column team drop default")
    user = project.auth.sign_up_email("ada@example.com")
    before = state(project)
    done = why(user)
    assert done.code == 1
    assert "has no row" in done.out
    assert "Sync failure:" in done.out
    assert "The sync would fail as before." in done.out
    # The sync that why tries fails like the one before. It is the same failure.
    assert (done.out.count("23502"), done.out.count("attempt")) == (1, 1)
    assert state(project) == before
    project.owner.execute(f"alter table {project.users} alter column team set default 'x'")
    assert "The row would be written completely." in why(user).out
    # A sync would fail for another reason than before.
    project.owner.execute(
        f"alter table {project.users} add column other int not null default 1 check (other > 1)"
    )
    other = why(user).out
    assert ("23502" in other, "23514" in other, other.count("attempt")) == (True, True, 1)
    project.owner.execute(f"alter table {project.users} drop column other")
    assert state(project) == before


@pytest.mark.newest_server
def test_why_reports_a_deleted_user(why, project):
    user = project.auth.sign_up_email("ada@example.com")
    project.auth.hard_delete(user)
    done = why(user)
    assert done.code == 0
    assert "no such user" in done.out
    assert "on_delete and on_soft_delete determine" in why(user, project.columns["email"]).out
    assert "ada@" not in done.out


@pytest.mark.newest_server
def test_why_refuses_a_column_that_is_not_mapped(why, project):
    user = project.auth.sign_up_email()
    done = why(user, "shoe_size")
    assert done.code == 2
    assert "'shoe_size' is not a mapped column" in done.err
    assert project.columns["email"] in done.err


@pytest.mark.newest_server
def test_a_renamed_users_table_refers_to_doctor(why, project):
    user = project.auth.sign_up_email("ada@example.com")
    project.owner.execute(f"alter table {project.users} rename to gone")
    done = why(user)
    assert done.code == 1
    assert "US203" in done.err
    assert "usersync doctor --only D012" in " ".join(done.err.split())


@pytest.mark.newest_server
@pytest.mark.parametrize("change", ["rename column {email} to elsewhere", "drop column {email}"])
def test_why_reports_a_mapped_column_that_was_renamed_or_dropped(why, project, change):
    """A user from before the change, and a degraded user from after it. The rest of both rows is shown."""
    before = project.auth.sign_up_email("ada@example.com", data={"full_name": "Ada Lovelace"})
    project.owner.execute(f"alter table {project.users} {change.format(email=project.column('email'))}")
    after = project.auth.sign_up_email("bob@example.com", data={"full_name": "Bob"})
    email = project.columns["email"]
    # The degraded row has no name.
    for user, name, times, address in (before, "Ada Lovelace", 2, "ada@"), (after, "Bob", 1, "bob@"):
        done = why(user)
        said = " ".join(done.out.split())
        assert done.code == 1, done.out + done.err
        assert done.out.count(name) == times
        assert f"{address}example.com no such column" in said
        assert f"{project.settings.users_table} has no column {email}, which the settings map" in said
        assert "usersync plan (D012)" in said
        assert "42703" in said
        one = why(user, email)
        assert one.code == 1
        assert f"has no column {email}" in " ".join(one.out.split())
        assert [each["missing"] for each in why(user, "--json").json["columns"] if each["name"] == email] == [
            True
        ]
