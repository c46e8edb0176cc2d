"""Commands over the Data API, with a URL and a key but no connection string."""

from __future__ import annotations

import json

import pytest

from postgrest_server import SECRET_KEY

pytestmark = pytest.mark.newest_server


@pytest.fixture
def over_api(usersync, gateway, monkeypatch):
    """Call the command with only a Data API configured. Returns the exit code and the JSON document."""
    monkeypatch.setenv("SUPABASE_URL", gateway.url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)

    def call(*arguments):
        done = usersync(*arguments, "--json")
        assert SECRET_KEY not in done.out + done.err
        return done.code, json.loads(done.out)

    return call


def test_daily_commands_run_over_the_data_api(project, over_api, insert_without_triggers, usersync):
    user, other = insert_without_triggers(2)
    assert over_api("status")[1]["missing"] == 2
    assert "(Data API)  out of sync" in usersync("status").out
    assert over_api("sync", "--dry-run")[1]["missing"] == 2
    assert over_api("sync", "--user", user)[0] == 0
    assert project.row(user)
    assert over_api("sync", "--workers", 2)[0] == 0
    assert project.row(other)
    assert over_api("failures")[1]["failures"] == []
    assert over_api("retry")[1]["retried"] == 0
    assert over_api("status")[1]["in_step"]


@pytest.mark.parametrize(
    "command",
    ["doctor", "plan", "apply --yes", "rollback --yes", "audit tail", "audit export", "audit tracked"],
)
def test_other_commands_say_that_they_require_a_database(over_api, command):
    code, said = over_api(*command.split())
    assert (code, said["error"]["code"]) == (2, "US103")
    assert "SUPABASE_DB_URL" in said["error"]["hint"]


class TestWithALog:
    @pytest.fixture
    def audit_enabled(self):
        return True

    def test_spooled_events_are_delivered_over_the_data_api(self, over_api, tmp_path):
        assert over_api("audit", "spool", "--drain", "--dir", tmp_path)[0] == 0

    def test_stored_events_are_read_over_the_data_api(self, over_api, project):
        project.owner.execute(
            """select public.record_audit_events('[{"action": "a", "entity_type": "t", "entity_id": "7"}]')"""
        )
        code, found = over_api("audit", "search", "--action", "a", "--limit", 1)
        (event,) = found["events"]
        assert (code, event["entity_id"], found["next"]) == (0, "7", None)
        assert over_api("audit", "history", "t/7")[1]["events"] == [event]
        assert over_api("audit", "show", event["id"])[1]["events"] == [event]


def test_a_connection_string_takes_precedence_over_the_data_api(project, usersync, monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "https://abc.supabase.co")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_publishable_which_would_not_do")
    monkeypatch.setenv("DATABASE_URL", project.database.dsn())
    assert usersync("status").code == 0


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({"SUPABASE_URL": "https://a.supabase.co"}, "US101", "nor SUPABASE_URL with SUPABASE_SECRET_KEY"),
        ({"SUPABASE_SECRET_KEY": SECRET_KEY}, "US102", "SUPABASE_URL is not set"),
        (
            {"SUPABASE_URL": "https://a.supabase.co", "SUPABASE_SECRET_KEY": "sb_publishable_abcdefgh"},
            "US102",
            "publishable",
        ),
        ({}, "US101", "no connection string"),
    ],
)
def test_a_missing_variable_is_named(usersync, monkeypatch, variables, code, says):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = usersync("status", "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["code"]) == (2, code)
    assert says in error["message"]
