"""A second table with a row for each user, created with the SQL of docs/init.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from usersync import UserSync
from usersync.config.settings import Settings
from usersync.testing.install import install

if TYPE_CHECKING:
    import psycopg

    from usersync.testing import GoTrue

PAGE = (Path(__file__).parents[2] / "docs/init.md").read_text()
TRIGGER, ONCE = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
TABLE = (
    "create table public.profiles (id uuid primary key references public.users on delete cascade, bio text)"
)

pytestmark = pytest.mark.newest_server


@dataclass(frozen=True)
class Second:
    """A project with users and profiles."""

    auth: GoTrue
    owner: psycopg.Connection
    client: UserSync

    def sync_failures(self):
        return {failure.user_id: failure for failure in self.client.failures()}


@pytest.fixture
def second(database, auth, postgres):
    install(database, Settings())
    with UserSync(database.dsn()) as client:
        yield Second(auth, postgres, client)


def profiles(second):
    return {user for (user,) in second.owner.execute("select id from public.profiles")}


def test_each_new_row_of_the_users_table_gets_a_profile(second):
    early = second.auth.sign_up_email()
    second.owner.execute(TABLE + ";" + TRIGGER)
    assert profiles(second) == set()
    second.owner.execute(ONCE)
    assert profiles(second) == {early}
    users = {
        early,
        second.auth.sign_up_email(),
        second.auth.sign_up_anonymous(),
        *second.auth.import_users(3),
    }
    assert profiles(second) == users
    second.owner.execute("delete from public.users")
    second.client.ensure_user_exists(early)
    assert profiles(second) == {early}
    assert second.client.reconcile().synced == len(users) - 1
    assert profiles(second) == users
    assert second.sync_failures() == {}


def test_a_failing_profile_is_a_sync_failure_and_fails_no_sign_up(second):
    second.owner.execute(TABLE + ";" + TRIGGER)
    second.owner.execute("alter table public.profiles add column motto text not null")
    user = second.auth.sign_up_email()
    failure = second.sync_failures()[user]
    assert (failure.outcome, failure.sqlstate, failure.column) == ("failed", "23502", "motto")
    assert "make_profile" in failure.raised_in
    second.owner.execute("alter table public.profiles alter column motto drop not null")
    assert second.client.retry().errors == 0
    assert profiles(second) == {user}
