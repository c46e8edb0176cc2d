"""The command `doctor`: its output and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest

from audit_settings import with_audit_log
from usersync.cli.doctor_view import DoctorView
from usersync.cli.main import run
from usersync.models import Check, Finding
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run as run_plan


def check_of(code, title, status, detail, fix):
    return Check(code, title, status, detail, (Finding(code, "table a", detail, fix),))


OK = Check("D001", "One", "ok", "all is well")
WARNING = check_of("D002", "Two", "warning", "odd value", "usersync apply")
PROBLEM = check_of("D003", "Three", "problem", "first\nsecond", "alter  table a;\nusersync sync")
SKIPPED = Check("D004", "Four", "skipped", "not here")


@pytest.mark.parametrize(
    ("checks", "strict", "code"),
    [
        ([OK], True, 0),
        ([OK, SKIPPED], True, 0),
        ([OK, WARNING], False, 0),
        ([OK, WARNING], True, 1),
        ([OK, PROBLEM], False, 1),
        ([SKIPPED], False, 1),
    ],
)
def test_the_exit_code_depends_on_the_statuses_and_strict(checks, strict, code):
    assert DoctorView(tuple(checks), "here", strict).exit_code == code


def test_the_text_output_of_each_status():
    lines = [click.unstyle(line) for line in DoctorView((OK, WARNING, PROBLEM, SKIPPED), "here").lines(80)]
    assert lines == [
        "here",
        "",
        "✓ D001  One: all is well",
        "! D002  Two",
        "        odd value",
        "        fix:",
        "          usersync apply",
        "✗ D003  Three",
        "        first",
        "        second",
        "        fix, as SQL:",
        "          alter  table a;",
        "        fix, in a shell:",
        "          usersync sync",
        "- D004  Four: not here",
        "",
        "1 ok, 1 warning, 1 problem, 1 skipped",
        "More about a check:  usersync explain D002",
    ]


def test_a_fix_is_printed_as_sql_and_shell_parts():
    check = check_of("D002", "Two", "problem", "odd value", "-- first\ndrop function f;\nusersync apply")
    lines = [click.unstyle(line).strip() for line in DoctorView((check,), "here").lines(80)]
    start = lines.index("fix, as SQL:")
    assert lines[start : start + 5] == [
        "fix, as SQL:",
        "-- first",
        "drop function f;",
        "fix, in a shell:",
        "usersync apply",
    ]


def test_comments_are_wrapped_and_code_is_not():
    advice, code = "-- " + "word " * 40, "select " + "1 + " * 40 + "1;"
    check = check_of("D002", "Two", "problem", "odd value", f"{advice}\n{code}")
    lines = [click.unstyle(line) for line in DoctorView((check,), "here").lines(80)]
    comments = [line for line in lines if line.strip().startswith("--")]
    assert len(comments) > 1
    assert all(len(line) <= 80 and line.endswith("word") for line in comments)
    assert f"          {code}" in lines


def test_escape_sequences_from_the_database_do_not_reach_the_terminal():
    check = check_of("D018", "Failures table", "problem", "\x1b[31mred", "-- \x1b]0;title\x07")
    text = "\n".join(DoctorView((check,), "here").lines(80))
    assert "\x1b[31mred" not in text
    assert "\x1b]0" not in text


@pytest.fixture
def doctor(database, tmp_path, monkeypatch, capsys):
    install(database, with_audit_log())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())

    def call(*options):
        code = run(["doctor", *options])
        return code, capsys.readouterr()

    return call


@pytest.mark.newest_server
class TestOnADatabase:
    @pytest.mark.parametrize("regime", ["old", "new"])
    def test_a_healthy_database_has_exit_code_0(self, doctor):
        code, output = doctor()
        assert code == 0, output.out
        assert "✓ D004  Triggers on the auth server's table" in output.out
        assert "34 ok, no warnings, no problems" in output.out
        assert "✓ D023  Pooler: none" in output.out

    def test_a_problem_has_exit_code_1(self, doctor, superuser):
        superuser.execute("alter table auth.users disable trigger on_auth_user_created")
        code, output = doctor("--only", "d004,D009")
        assert code == 1
        assert "usersync apply" in output.out
        assert "1 ok, no warnings, 1 problem" in output.out

    def test_the_json_has_a_summary_and_the_checks(self, doctor, superuser):
        superuser.execute("grant execute on function public.user_sync_status() to anon")
        code, output = doctor("--json", "--only", "D009")
        document = json.loads(output.out)
        assert code == 1
        assert document["summary"] == {"ok": 0, "warning": 0, "problem": 1, "skipped": 0}
        (check,) = document["checks"]
        assert check["code"] == "D009"
        assert "revoke all on function" in check["fix"]

    def test_a_warning_has_exit_code_1_with_strict(self, doctor, postgres):
        postgres.execute("grant select on table public.users to anon")
        assert doctor("--only", "D011")[0] == 0
        assert doctor("--only", "D011", "--strict")[0] == 1

    @pytest.mark.slow
    def test_without_a_settings_file_it_uses_the_settings_in_the_database(self, doctor, postgres, tmp_path):
        run_plan(installation.apply(replace(with_audit_log(), lock_timeout_ms=600)), postgres)
        assert doctor()[0] == 0
        (tmp_path / "usersync.toml").write_text("lock_timeout_ms = 700", "utf-8")
        code, output = doctor("--only", "D020")
        assert code == 1
        assert "lock_timeout_ms is 600 in the database, and 700 in" in output.out

    def test_without_a_settings_file_an_edited_function_is_reported(self, doctor, postgres):
        run_plan(
            installation.apply(
                replace(with_audit_log(), columns=with_audit_log().columns[::-1], lock_timeout_ms=600)
            ),
            postgres,
        )
        assert doctor("--only", "D006")[0] == 0
        postgres.execute("alter function usersync.handle_new_user() reset search_path")
        code, output = doctor("--only", "D006")
        assert code == 1
        assert "handle_new_user" in output.out

    def test_invalid_settings_in_the_database_are_a_problem(self, doctor, postgres):
        postgres.execute("""update usersync.settings set settings = '{"on_delete": "explode"}'""")
        code, output = doctor("--only", "D004,D020")
        assert code == 1
        assert "1 ok, no warnings, 1 problem" in output.out

    def test_a_role_without_privileges_has_exit_code_1(self, doctor, database):
        code, output = doctor("--dsn", database.dsn("service_role"))
        assert code == 1
        assert "the role service_role cannot inspect the database" in output.out

    def test_an_unknown_check_has_exit_code_2(self, doctor):
        code, output = doctor("--only", "D004,D999")
        assert code == 2
        assert "no check D999" in output.err


def test_a_failed_connection_has_exit_code_3(capsys):
    assert run(["doctor", "--dsn", "postgresql://nobody@127.0.0.1:1/none"]) == 3
    assert "US201" in capsys.readouterr().err
