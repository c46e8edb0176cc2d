"""Commands read the settings of earlier releases, in the settings file and in the database."""

from __future__ import annotations

import json

import pytest

from audit_settings import with_audit_log
from usersync.schema import installation
from usersync.transports.run import run


@pytest.fixture
def audit_enabled():
    return True


@pytest.fixture
def store_old_settings(project):
    """A function that stores settings in the database in the form of an earlier release."""

    def store_old_settings(**changed: object) -> None:
        (stored,) = project.owner.execute("select settings from usersync.settings").fetchone()
        stored["audit"].pop("enabled", None)
        if "audit_table" in changed:
            stored["audit"].pop("table")
        stored |= changed
        stored = {name: value for name, value in stored.items() if value is not None}
        project.owner.execute("update usersync.settings set settings = %s", [json.dumps(stored)])

    return store_old_settings


OLD_LOG = {"removal_cap": 0.05, "audit_table": "app.history"}
MAKE_HISTORY = """
    create schema app;
    alter table public.audit_logs set schema app;
    alter table app.audit_logs rename to history;
"""


@pytest.mark.slow
def test_every_command_reads_settings_that_an_earlier_release_stored(project, store_old_settings, usersync):
    """This includes audit search and rollback, which read the log's name from the stored settings."""
    dsn = project.database.dsn()
    project.owner.execute(MAKE_HISTORY)
    run(installation.apply(with_audit_log({"audit": {"table": "app.history"}})), project.owner)
    store_old_settings(**OLD_LOG)
    for command in (
        *(("audit", "search"), ("audit", "stats"), ("status",), ("doctor",), ("why", "a@example.com")),
        ("init", "--yes", "--force"),
    ):
        done = usersync(*command, "--dsn", dsn)
        assert "removal_cap" not in done.out + done.err, command
        assert "unknown setting" not in done.out + done.err, command
    assert usersync("audit", "search", "--dsn", dsn).code == 0
    done = usersync("rollback", "--yes", "--dsn", dsn)
    assert done.code == 0
    assert "app.history" in done.out


def test_a_new_setting_is_not_reported_as_different(project, store_old_settings, usersync):
    """The new setting has its default value in the file and in the database."""
    dsn = project.database.dsn()
    store_old_settings(**OLD_LOG | {"audit_table": "public.audit_logs", "lock_timeout_ms": None})
    assert "lock_timeout_ms" not in differing(usersync, dsn)
    store_old_settings(lock_timeout_ms=300)
    assert "lock_timeout_ms" in differing(usersync, dsn)


def differing(usersync, dsn) -> list[str]:
    """The settings that plan reports as different from the applied ones."""
    found = usersync("plan", "--json", "--dsn", dsn).json["settings"]["differing"]
    assert "audit" not in found
    return found


def test_the_command_prints_a_warning_for_a_retired_setting(usersync, tmp_path, project):
    (tmp_path / "usersync.toml").write_text('removal_cap = 0.1\naudit_table = "app.history"\n')
    done = usersync("config", "--dsn", project.database.dsn())
    assert done.code == 0
    assert "warning: usersync.toml: removal_cap has no effect any more" in done.err
    assert "usersync.toml:2" in next(line for line in done.out.splitlines() if "audit.table" in line)
