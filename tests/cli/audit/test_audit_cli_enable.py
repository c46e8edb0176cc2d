"""``usersync audit enable`` writes the setting, creates the audit log, and keeps the rest of the file."""

from __future__ import annotations

import tomllib

import pytest

from usersync.cli.settings_file import SettingsFile
from usersync.config.mapping import TableName
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

EVENTS = TableName("app", "events")

COMMENTED = """\
# Ours.
users_table = "public.people"  # since 2019

[audit.columns]  # later
"""

FILES = {
    "none": ("", "[audit]\nenabled = true\n"),
    "no section": ('key = "id"\n', 'key = "id"\n\n[audit]\nenabled = true\n'),
    "a section": (
        '[audit]\npersonal = ["email"]\n\n[columns]\nemail = "email"\n',
        '[audit]\nenabled = true\npersonal = ["email"]\n\n[columns]\nemail = "email"\n',
    ),
    "switched off": (
        "[ audit ]  # no log\nenabled = false # yet\n",
        "[ audit ]  # no log\nenabled = true # yet\n",
    ),
    "dotted": ("audit.enabled = false\n", "audit.enabled = true\n"),
    "as init writes it": (
        "# No audit log is created. To create one, run: usersync audit enable\n[audit]\nenabled = false\n",
        "[audit]\nenabled = true\n",
    ),
    "on already": ("[audit]\nenabled = true\n", "[audit]\nenabled = true\n"),
    "a table below it": (COMMENTED, COMMENTED + "\n[audit]\nenabled = true\n"),
}


@pytest.mark.parametrize("case", FILES)
def test_enable_changes_only_its_setting_in_the_file(directory, case):
    before, after = FILES[case]
    if before:
        (directory / "usersync.toml").write_text(before)
    file = SettingsFile.of(None)
    file.write(file.with_log())
    assert (directory / "usersync.toml").read_text() == after


def test_enable_writes_the_name_of_the_log_to_the_file(directory):
    (directory / "usersync.toml").write_text('[audit]\ntable = "public.old"\n')
    text = SettingsFile.of(None).with_log(EVENTS)
    assert tomllib.loads(text) == {"audit": {"enabled": True, "table": "app.events"}}


def test_enable_edits_pyproject_if_it_has_the_settings(directory):
    (directory / "pyproject.toml").write_text('[project]\nname = "x"\n\n[tool.usersync]\nkey = "id"\n')
    file = SettingsFile.of(None)
    file.write(file.with_log())
    assert tomllib.loads((directory / "pyproject.toml").read_text())["tool"]["usersync"]["audit"] == {
        "enabled": True
    }


@pytest.mark.parametrize("text", ["audit = { enabled = false }\n", 'audit.table = "x.y"\n', "audit = 5\n"])
def test_the_error_names_a_file_format_that_enable_does_not_edit(directory, text):
    (directory / "usersync.toml").write_text(text)
    file = SettingsFile.of(None)
    try:
        written = file.with_log()
    except SettingsError as error:
        assert "[audit] enabled = true" in error.hint  # noqa: PT017 - one of two good ends
        assert (directory / "usersync.toml").read_text() == text
    else:
        assert tomllib.loads(written)["audit"]["enabled"] is True


@pytest.fixture
def bare(usersync, database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return usersync


def log(postgres, name="public.audit_logs"):
    return postgres.execute("select to_regclass(%s) is not null", [name]).fetchone()[0]


@pytest.mark.slow
def test_enable_installs_usersync_if_it_is_not_installed(bare, postgres, auth, directory):
    user = auth.sign_up_email("a@example.com")
    done = bare("audit", "enable", "--yes")
    assert done.code == 0, done
    assert log(postgres)
    assert postgres.execute("select id from public.users").fetchall() == [(user,)]
    assert (directory / "usersync.toml").read_text() == "[audit]\nenabled = true\n"
    assert bare("plan", "--exit-code").code == 0
    assert bare("audit", "enable", "--yes").code == 0


def test_apply_creates_no_log_and_enable_creates_it(bare, postgres):
    assert bare("apply", "--yes", "--no-trial").code == 0
    assert not log(postgres)
    done = bare("audit", "tail", "--no-follow")
    assert done.code == 1
    assert "usersync audit enable" in done.err
    enabled = bare("audit", "enable", "--yes")
    # The setting that the command itself changes is no reason for a warning.
    assert (enabled.code, "other settings" in enabled.out + enabled.err) == (0, False)
    assert log(postgres)


@pytest.mark.slow
def test_an_existing_table_with_the_logs_name_stops_enable(bare, postgres, directory):
    postgres.execute("create table public.audit_logs (id int)")
    done = bare("audit", "enable", "--yes")
    assert done.code == 1
    assert "[audit] table" in done.out
    assert not (directory / "usersync.toml").exists()
    assert bare("audit", "enable", "--yes", "--table", "app.events").code == 0
    assert log(postgres, "app.events")
    assert tomllib.loads((directory / "usersync.toml").read_text())["audit"]["table"] == "app.events"


@pytest.mark.parametrize(
    "statement",
    ["create table audit_logs(id int)", 'CREATE TABLE IF NOT EXISTS\n  "public"."audit_logs" (id int)'],
)
def test_a_migration_file_that_creates_the_logs_table_stops_enable(bare, postgres, directory, statement):
    folder = directory / "supabase/migrations"
    folder.mkdir(parents=True)
    (folder / "2_later.sql").write_text(f"-- a log\n{statement};\n")
    done = bare("audit", "enable", "--yes")
    assert done.code == 1
    assert "2_later.sql" in done.err
    assert "--table" in done.err
    assert not log(postgres)


@pytest.mark.slow
def test_other_migrations_do_not_stop_enable(bare, postgres, directory):
    bare("apply", "--yes", "--no-trial")
    folder = directory / "supabase/migrations"
    folder.mkdir(parents=True)
    (folder / "1_usersync.sql").write_text("-- usersync 0.1.0: installs\ncreate table audit_logs (id int);")
    (folder / "2.sql").write_text("-- create table audit_logs (id int)\ncreate table audit_logs_2 (id int);")
    assert bare("audit", "enable", "--yes").code == 0
    assert log(postgres)


def test_a_mapped_table_needs_no_log(bare, directory):
    (directory / "usersync.toml").write_text('[audit.columns]\nid = "event_id"\n')
    done = bare("audit", "enable", "--yes")
    assert done.code == 2
    assert "maps" in done.err


@pytest.mark.slow
def test_init_enables_the_log_only_if_the_user_agrees(bare, directory, postgres):
    assert bare("init", "--yes").code == 0
    text = (directory / "usersync.toml").read_text()
    assert tomllib.loads(text)["audit"] == {"enabled": False}
    assert "usersync audit enable" in text
    assert bare("apply", "--yes", "--no-trial").code == 0
    assert not log(postgres)
    assert bare("audit", "enable", "--yes").code == 0
    assert bare("init", "--yes", "--force").code == 0
    assert tomllib.loads((directory / "usersync.toml").read_text())["audit"] == {"enabled": True}
