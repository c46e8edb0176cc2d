"""Realistic projects go through init, apply, changes of many users, an upgrade, and a rollback.

A project's schema is ``tests/schemas/NAME.sql``. ``NAME.toml`` is the proposal of ``usersync init`` for it.
To refresh those after a change that is meant: make golden
"""

from __future__ import annotations

import difflib
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from real_schemas import PROJECTS, SCHEMAS, TENANT
from usersync.config.settings import load_settings, parse_settings
from usersync.testing import GoTrueError

if TYPE_CHECKING:
    from pathlib import Path

#: The seed of the sequence of events.
SEED = int(os.environ.get("USERSYNC_SEED", "1"))


SIGN_UPS = {
    "email": lambda auth, n: auth.sign_up_email(
        f"ada-{n}@example.com", data={"full_name": "Ada L.", "name": "Ada", "age": n - 3}
    ),
    "phone": lambda auth, n: auth.sign_up_phone(f"1555{n:07}"),
    "oauth": lambda auth, n: auth.sign_up_oauth(
        "github", f"bea-{n}@example.com", claims={"avatar_url": "https://a.example.com", "user_name": "bea"}
    ),
    "sso": lambda auth, n: auth.sign_up_sso(f"sso-{n}@example.com"),
    "sso_again": lambda auth, _: auth.sign_up_sso("same@example.com"),
    "anonymous": lambda auth, _: auth.sign_up_anonymous(),
    "invite": lambda auth, n: auth.invite(f"invited-{n}@example.com"),
    "admin": lambda auth, n: auth.admin_create(
        f"made-{n}@example.com", app_metadata={**TENANT, "roles": ["a"]}, ban=timedelta(days=1)
    ),
    "import": lambda auth, n: auth.import_users(3, domain=f"import-{n}.example.com")[0],
}
CHANGES = {
    "change_email": lambda auth, user, n: auth.change_email(user, f"new-{n}@example.com"),
    "change_phone": lambda auth, user, n: auth.change_phone(user, f"1666{n:07}"),
    "metadata": lambda auth, user, n: auth.update_user_metadata(
        user, full_name=f"Name {n}", age=n, user_name="ada"
    ),
    "odd_metadata": lambda auth, user, _: auth.update_user_metadata(user, age="old", name={"a": 1}),
    "app_metadata": lambda auth, user, _: auth.update_app_metadata(user, **TENANT),
    "sign_in": lambda auth, user, _: auth.refresh_token(user),
    "ban": lambda auth, user, n: auth.ban(user, timedelta(days=n + 1)),
    "unban": lambda auth, user, _: auth.unban(user),
    "soft_delete": lambda auth, user, _: auth.soft_delete(user),
    "hard_delete": lambda auth, user, _: auth.hard_delete(user),
}
BEFORE = ("email", "oauth", "admin", "anonymous", "sso")


def existing_users(superuser):
    query = "select id from auth.users where deleted_at is null order by email, id"
    return [user for (user,) in superuser.execute(query)]


def change_users_at_random(auth, superuser, *, seed, steps):
    """Create, change and delete users, and return the number of errors by kind."""
    choice, refused = random.Random(f"{SEED} {seed}"), Counter()  # noqa: S311 - the same each time
    for n in range(steps):
        users = existing_users(superuser)
        kinds = SIGN_UPS if n < len(SIGN_UPS) or choice.random() < 0.4 else CHANGES
        kind = list(SIGN_UPS)[n] if n < len(SIGN_UPS) else choice.choice(list(kinds))
        try:
            if kinds is SIGN_UPS:
                SIGN_UPS[kind](auth, seed * 1000 + n)
            elif users:
                CHANGES[kind](auth, choice.choice(users), seed * 1000 + n)
        except GoTrueError as error:
            if error.status == 500:  # an error of PostgreSQL, not of the auth server
                refused[kind] += 1
    return refused


@dataclass
class Run:
    """One project during the test."""

    name: str
    usersync: object
    postgres: object
    superuser: object
    auth: object
    directory: Path

    @property
    def project(self):
        return PROJECTS[self.name]

    @property
    def settings(self):
        return load_settings(self.directory / "usersync.toml")

    def call(self, *arguments, codes=(0,)):
        done = self.usersync(*arguments)
        assert done.code in codes, f"{arguments}: {done.out}{done.err}"
        return done

    def rows(self):
        query = (
            f"select ctid::text, xmin::text, u::text from {self.settings.users_table.quoted} as u order by 1"
        )
        return self.superuser.execute(query).fetchall()

    def recorded_failures(self):
        query = "select user_id, sqlstate, column_name from usersync.sync_failures"
        return {user: (sqlstate, column) for user, sqlstate, column in self.superuser.execute(query)}

    def in_step(self):
        """Reconcile. Each user has a row or a sync failure, and a second run writes nothing."""
        codes = (0, 1) if self.project.sync_failures else (0,)
        self.call("sync", "--json", codes=codes)
        assert set(self.recorded_failures().values()) <= self.project.sync_failures
        key = self.settings.key.replace('"', '""')
        query = f'select "{key}"::text from {self.settings.users_table.quoted}'
        there = {user for (user,) in self.superuser.execute(query)}
        assert {
            user for user in existing_users(self.superuser) if str(user) not in there
        } <= self.recorded_failures().keys()
        before = self.rows()
        again = self.call("sync", "--json", codes=codes).json
        assert again["missing"] + again["stale"] + again["orphaned"] <= len(self.recorded_failures())
        assert self.rows() == before


@pytest.fixture
def run(request, usersync, postgres, superuser, auth, database, directory, monkeypatch):  # noqa: PLR0917
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    postgres.prepare_threshold = None
    postgres.execute((SCHEMAS / f"{request.param}.sql").read_text())
    for n, kind in enumerate(BEFORE):
        with suppress(GoTrueError):  # a failure of the hand-written trigger
            SIGN_UPS[kind](auth, n)
    return Run(request.param, usersync, postgres, superuser, auth, directory)


def same_as_golden(name, text):
    golden = SCHEMAS / f"{name}.toml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    wanted = golden.read_text(encoding="utf-8") if golden.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "made", n=1)
    )
    assert not difference, f"{difference}\n\nIf this is meant: make golden"


#: The others take two seconds each.
QUICK = {"own_triggers", "users_and_profiles"}


@pytest.mark.newest_server
@pytest.mark.parametrize(
    "run",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PROJECTS],
    indirect=True,
)
def test_a_realistic_project_works_from_init_to_rollback(run, catalog):
    untouched = catalog()
    if run.project.table:
        assert "QUESTION" in run.call("init", "--yes", "--stdout", codes=(1,)).out
    named = ["--table", run.project.table] if run.project.table else []
    done = run.call("init", "--yes", *named, codes=(0, 1))
    assert catalog() == untouched
    text = (run.directory / "usersync.toml").read_text()
    same_as_golden(run.name, text)
    assert done.code == ("DECIDE" in text)
    assert done.code or not (run.project.decided or run.project.prepared)
    for proposed, answer in run.project.answers:
        assert f"\n{proposed}\n" in text
        text = text.replace(f"\n{proposed}\n", f"\n{answer}\n")
    (run.directory / "usersync.toml").write_text(text + run.project.decided)
    run.postgres.execute(run.project.prepared)

    before = catalog()
    run.call("plan", "--adopt")
    assert catalog() == before
    # tests/p9/test_differences_of_schemas.py compares the trial of these projects with the real effects.
    untried = ("--accept-changes", "--no-trial")
    run.call("apply", "--adopt", "--yes", *untried, codes=(0, 1) if run.project.sync_failures else (0,))
    refused = change_users_at_random(run.auth, run.superuser, seed=1, steps=70)
    assert set(refused) <= run.project.refused
    run.in_step()

    again = run.call("init", "--yes", "--json", "--stdout", codes=(0, 1)).json
    assert parse_settings(again["settings"]) == run.settings, "init proposes the installed settings"

    upgrade(run)
    assert set(change_users_at_random(run.auth, run.superuser, seed=2, steps=15)) <= run.project.refused
    run.in_step()

    made = ["--drop-users-table"] if run.name == "no_table" else []
    if not made:
        run.postgres.execute(f"alter table {run.settings.users_table.quoted} drop column auth_confirmed_at")
    run.call("rollback", "--yes", "--drop-audit-log", *made)
    assert catalog() == before
    change_users_at_random(run.auth, run.superuser, seed=3, steps=5)


def upgrade(run):
    """A new column is mapped.

    plan counts the values that apply would overwrite, and apply overwrites them.
    """
    table, key = run.settings.users_table.quoted, run.settings.key
    run.postgres.execute(f"alter table {table} add column auth_confirmed_at timestamptz")
    path = run.directory / "usersync.toml"
    path.write_text(path.read_text() + 'auth_confirmed_at = "email_confirmed_at"\n')
    equal = (
        f'select count(*) from {table} as t join auth.users as u on u.id::text = t."{key}"::text '
        "where u.deleted_at is null and u.email_confirmed_at is not null and t.auth_confirmed_at is {}null"
    )
    (differing,) = run.superuser.execute(equal.format("")).fetchone()
    assert differing > 0
    planned = run.call("plan", "--json", "--sql").json
    assert any(f"auth_confirmed_at in {differing}" in each["message"] for each in planned["findings"])
    assert any("auth_confirmed_at" in each["sql"] for each in planned["changes"])
    run.call("apply", "--yes", "--no-trial", codes=(0, 1) if run.project.sync_failures else (0,))
    assert run.superuser.execute(equal.format("")).fetchone() == (0,)


def test_every_schema_file_belongs_to_a_project():
    assert {path.stem for path in SCHEMAS.glob("*.sql")} == set(PROJECTS)
