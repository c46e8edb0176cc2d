"""P9: installing changes nothing that worked. Small applications with random hand-written triggers.

``init`` and ``apply --adopt`` are run on each, as a new user would. Either nothing is different afterwards,
flow by flow and row by row; or the difference is shown, and nothing was installed. Another number is another
sequence of applications: USERSYNC_SEED.
"""

from __future__ import annotations

import os
import random

import pytest

from usersync.schema.trial.comparison import compare
from usersync.schema.trial.observing import observe
from usersync.settings import Settings, load_settings
from usersync.testing import GoTrue

pytestmark = pytest.mark.newest_server

SEED = int(os.environ.get("USERSYNC_SEED", "1"))

#: Those that show the most of what triggers do.
FLOWS = (
    "sign-up by e-mail",
    "sign-up by OAuth",
    "anonymous sign-up",
    "confirmation",
    "sign-in",
    "change of e-mail",
    "change of metadata",
    "soft deletion",
    "hard deletion",
)

#: A column, what the trigger gives it, and how it is followed, if it is.
COLUMNS = (
    ("email text", "email", "new.email"),
    ("full_name text", "full_name", "new.raw_user_meta_data->>'full_name'"),
    ("role text not null default 'member'", "role", "'client'"),
    ("bio text default ''", "bio", None),
    ("joined_at timestamptz default now()", "joined_at", None),
    ("since timestamptz", "since", "new.created_at"),
)
CONFLICTS = ("", "on conflict (id) do nothing")


def application(choice: random.Random) -> str:
    """The SQL of an application."""
    columns = [each for each in COLUMNS if choice.random() < 0.6] or [COLUMNS[0]]
    reference = choice.choice(("", " references auth.users on delete cascade"))
    parts = [
        f"create table public.people (id uuid primary key{reference}"
        + "".join(f", {definition}" for definition, _, _ in columns)
        + ");"
    ]
    filled = [(name, value) for _, name, value in columns if value and choice.random() < 0.8]
    names = ", ".join(["id", *(name for name, _ in filled)])
    values = ", ".join(["new.id", *(value for _, value in filled)])
    insert = f"insert into public.people ({names}) values ({values}) {choice.choice(CONFLICTS)};"
    if choice.random() < 0.3:
        parts.append("create table public.wallets (owner uuid primary key, balance int default 0);")
        insert += " insert into public.wallets (owner) values (new.id);"
    if choice.random() < 0.25:
        confirmed = "old.email_confirmed_at is null and new.email_confirmed_at is not null"
        parts.append(_trigger("made", "after update", f"if {confirmed} then {insert} end if;"))
    else:
        parts.append(_trigger("made", "after insert", insert))
    followed = [(name, value) for name, value in filled if value.startswith("new.") and choice.random() < 0.5]
    if followed:
        sets = ", ".join(f"{name} = {value}" for name, value in followed)
        parts.append(
            _trigger("followed", "after update", f"update public.people set {sets} where id = new.id;")
        )
    if not reference and choice.random() < 0.5:
        parts.append(_trigger("gone", "after delete", "delete from public.people where id = old.id;"))
    return "\n".join(parts)


def _trigger(name: str, when: str, body: str) -> str:
    return f"""
        create function public.{name}() returns trigger language plpgsql security definer set search_path = ''
        as $$ begin {body} return null; end $$;
        create trigger {name} {when} on auth.users for each row execute function public.{name}();
    """


def rows(connection):
    found = connection.execute("select to_jsonb(each) from public.people as each").fetchall()
    return {row["id"]: row for (row,) in found}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(4))
def test_installing_changes_nothing_that_worked(  # noqa: PLR0917 - fixtures
    usersync, database, postgres, directory, monkeypatch, catalog, number
):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    sql = application(random.Random(f"{SEED} {number}"))  # noqa: S311 - the same each time
    postgres.execute(sql)
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
        auth.change_email(auth.sign_up_oauth(name="Bea"), "bea@example.com")
        auth.soft_delete(auth.sign_up_email("carl@example.com"))
    before, there, schema = observe(postgres, Settings(), flows=FLOWS), rows(postgres), catalog()

    proposed = usersync("init", "--yes", "--table", "public.people")
    assert proposed.code in (0, 1), proposed.out + proposed.err
    if not (directory / "usersync.toml").exists():
        return
    done = usersync("apply", "--yes", "--adopt")
    context = f"{sql}\n{(directory / 'usersync.toml').read_text()}\n{done.out}{done.err}"
    if done.code == 1 and "Done:" not in done.out:
        assert "Different with usersync" in done.out or "✗" in done.out, context
        assert catalog() == schema, context
        assert rows(postgres) == there, context
        return
    settings = load_settings(directory / "usersync.toml")
    after = observe(postgres, settings, flows=FLOWS, metadata_keys=before.metadata_keys)
    worse = [each for each in compare(before, after, "public.people") if each.must_be_accepted]
    assert worse == [], context
    assert {key: row for key, row in rows(postgres).items() if key in there} == there, context
