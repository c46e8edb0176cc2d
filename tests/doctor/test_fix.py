"""``usersync doctor --fix`` fixes usersync's own objects, and only reports other problems."""

from __future__ import annotations

import json

import pytest
from test_canary import snapshot

from fixtures_project import NAMES
from usersync.cli.main import run
from usersync.doctor.fixes import remedies

pytestmark = pytest.mark.newest_server


def as_toml(value):
    """Settings as TOML, with inline tables."""
    lines = []
    for name, each in value.items():
        lines.append(f"{json.dumps(name)} = {_toml_value(each)}")
    return "\n".join(lines)


def _toml_value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def doctor(checked, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", checked.project.database.dsn())
    (tmp_path / "usersync.toml").write_text(as_toml(NAMES[names][0] | {"audit": {"enabled": True}}), "utf-8")

    def call(*options):
        code = run(["doctor", *options])
        return code, capsys.readouterr()

    return call


NEXT_MONTH = "(select to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM'))"

#: Damage to usersync's own objects, with the check that reports it.
SAFE = {
    "a migration that is not recorded": ("D003", "delete from usersync.schema_version where version = 1"),
    "the failures table": ("D003", "drop table usersync.sync_failures cascade"),
    "a missing trigger": ("D004", "drop trigger on_auth_user_updated on auth.users"),
    "a disabled trigger": ("D004", "alter table auth.users disable trigger on_auth_user_created"),
    "an edited trigger": (
        "D004",
        (
            "create or replace trigger on_auth_user_updated before update on auth.users "
            "for each row execute function usersync.handle_updated_user()"
        ),
    ),
    "a missing function": ("D006", "drop function usersync.handle_new_user() cascade"),
    "an edited function": (
        "D006",
        (
            "create or replace function usersync.handle_new_user() returns trigger language plpgsql "
            "as 'begin return null; end'"
        ),
    ),
    "an open search path": ("D007", "alter function usersync.handle_new_user() reset search_path"),
    "SECURITY INVOKER": ("D007", "alter function usersync.handle_new_user() security invoker"),
    "a function for anon": ("D009", "grant execute on function public.user_sync_status() to anon"),
    "the schema for public": ("D009", "grant usage on schema usersync to public"),
    "a column for anon": ("D009", "grant update (message) on usersync.sync_failures to anon"),
    "service_role without EXECUTE": (
        "D009",
        "revoke execute on function public.ensure_user_exists(uuid) from service_role",
    ),
    "a log that can be changed": ("D024", "alter table public.audit_logs disable trigger keep_audit_logs"),
    "no log": ("D025", "drop table public.audit_logs cascade"),
    "a log that is open": ("D026", "grant select, insert on public.audit_logs to anon"),
    "a log without row-level security": ("D026", "alter table public.audit_logs disable row level security"),
    "a default partition that is gone": ("D027", "drop table usersync.audit_logs_default"),
    "a month without a partition": (
        "D027",
        f"do $$ begin execute 'drop table usersync.audit_logs_' || {NEXT_MONTH}; end $$",
    ),
    "a second trigger": (
        "D005",
        (
            "create trigger again after insert on auth.users referencing new table as new_users "
            "for each statement execute function usersync.handle_new_user()"
        ),
    ),
    "a third-party trigger with the name of usersync's": (
        "D004",
        (
            "create function public.of_the_app() returns trigger language plpgsql as 'begin return new; end';"
            "create or replace trigger on_auth_user_created after insert on auth.users "
            "for each row execute function public.of_the_app()"
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", SAFE)
def test_an_object_of_usersync_is_fixed(checked, doctor, root, how):
    code, damage = SAFE[how]
    root.execute(damage)
    assert checked.check(code).status != "ok"
    code_of_fix, output = doctor("--fix", "--yes")
    assert code_of_fix == 0, output.out
    assert checked.failing() == {}
    shown, _, report = output.out.partition("D001")
    assert f"{code}" in shown
    assert "done" in report or "done" in shown


#: Damage that a person must fix: to the application's tables, to another role's objects, or to settings.
UNSAFE = {
    "another owner": ("D007", "alter function usersync.handle_new_user() owner to supabase_admin"),
    "a privilege of the owner": ("D008", "revoke update on auth.users from postgres"),
    "no row-level security": (
        "D010",
        (
            "alter table {users} disable row level security; grant all on {users} to anon;"
            "grant usage on schema {schema} to anon"
        ),
    ),
    "no users table": ("D012", "alter table {users} rename to kept"),
    "a NOT NULL column": ("D012", "alter table {users} add column demanded text not null"),
    "a foreign key that blocks": (
        "D013",
        "alter table {users} add foreign key ({key}) references auth.users (id)",
    ),
    "a deferred constraint": (
        "D014",
        "alter table {users} add unique ({email}) deferrable initially deferred",
    ),
    "other settings": (
        "D020",
        """update usersync.settings set settings = settings || '{"lock_timeout_ms": 700}'""",
    ),
    "an index of the log": (
        "D025",
        (
            "do $$ begin execute (select format('drop index %s', indexrelid::regclass) from pg_index "
            "where indrelid = 'public.audit_logs'::regclass and not indisprimary limit 1); end $$"
        ),
    ),
    "a detached partition": (
        "D027",
        (
            "do $$ begin execute 'alter table public.audit_logs detach partition usersync.audit_logs_' "
            f"|| {NEXT_MONTH}; end $$"
        ),
    ),
}


@pytest.mark.parametrize("how", UNSAFE)
def test_other_damage_is_reported_and_not_changed(checked, doctor, root, how):
    code, damage = UNSAFE[how]
    names = {
        "{users}": checked.project.users,
        "{key}": '"' + checked.settings.key + '"',
        "{email}": checked.project.column("email"),
        "{schema}": '"' + checked.settings.users_table.schema.replace('"', '""') + '"',
    }
    for name, here in names.items():
        damage = damage.replace(name, here)
    root.execute(damage)
    before = snapshot(root)
    _, output = doctor("--fix", "--yes", "--json")
    document = json.loads(output.out)
    found = {check["code"]: check for check in document["checks"]}
    assert found[code]["status"] in ("warning", "problem")
    assert found[code]["fix"]
    # A fix that fails because another role owns the object has changed nothing.
    assert all(each["error"] for each in document["fixes"])
    assert snapshot(root) == before


def test_fix_creates_no_table_if_the_users_table_was_renamed(checked, doctor, root):
    """A trigger is disabled, too. Its fix, ``usersync apply``, would create a new users table."""
    root.execute(f"alter table {checked.project.users} rename to kept")
    root.execute("alter table auth.users disable trigger on_auth_user_created")
    before = snapshot(root)
    code, output = doctor("--fix", "--yes")
    assert code == 1
    assert "D012" in output.out
    assert snapshot(root) == before


def test_the_sql_of_a_fix_is_printed_and_in_the_json(doctor, root):
    root.execute("grant usage on schema usersync to anon")
    _, output = doctor("--fix", "--yes")
    assert output.out.startswith("-- D009\nrevoke all on schema usersync from anon;\n\n")
    root.execute("grant usage on schema usersync to anon")
    (fixed,) = json.loads(doctor("--fix", "--yes", "--json")[1].out)["fixes"]
    assert fixed == {"codes": ["D009"], "fix": fixed["sql"], "sql": fixed["sql"], "error": None}


@pytest.mark.slow
def test_a_failed_fix_does_not_prevent_the_other_fixes(checked, doctor, root):
    root.execute("grant usage on schema usersync to anon")
    root.execute("alter function usersync.handle_new_user() owner to supabase_admin")
    root.execute("alter function usersync.handle_new_user() reset search_path")
    code, output = doctor("--fix", "--yes")
    assert code == 1
    assert "must be owner of function handle_new_user" in output.out
    assert checked.check("D009").status == "ok"


_FUNCTIONS = "select signature, checksum, fingerprint, installed_at from usersync.functions order by 1"


def test_without_a_file_the_settings_in_the_database_are_used(doctor, checked, root, tmp_path):
    """They include the order of the columns, so no function is replaced."""
    (tmp_path / "usersync.toml").unlink()
    before = root.execute(_FUNCTIONS).fetchall()
    root.execute("alter table auth.users disable trigger on_auth_user_created")
    code, _ = doctor("--fix", "--yes")
    assert code == 0
    assert checked.check("D006").status == "ok"
    assert root.execute(_FUNCTIONS).fetchall() == before


def test_settings_of_unknown_column_order_are_not_applied(doctor, checked, root, tmp_path):
    """0.1.0 did not store the order of the columns. Without a file, apply would replace each function."""
    if checked.settings.columns[0].name == "email":
        pytest.skip("the default mapping is known")
    (tmp_path / "usersync.toml").unlink()
    root.execute("update usersync.settings set settings = settings - 'column_order'")
    root.execute("alter table auth.users disable trigger on_auth_user_created")
    code, output = doctor("--fix", "--yes")
    assert code == 1
    assert "usersync apply" in output.out
    assert checked.check("D006").status == "ok"


def test_without_a_terminal_yes_is_required(doctor):
    code, output = doctor("--fix")
    assert code == 2
    assert "add --yes" in output.err


def test_nothing_runs_if_the_answer_is_no(checked, doctor, root, monkeypatch):
    asked = []
    monkeypatch.setattr("usersync.cli.options.can_ask", lambda: True)
    monkeypatch.setattr("usersync.cli.output.Output.confirm", lambda _, question: asked.append(question))
    root.execute("grant usage on schema usersync to anon")
    code, output = doctor("--fix")
    assert code == 1
    assert "revoke all on schema usersync from anon;" in output.out
    (question,) = asked
    assert question.startswith("Run 1 fix in ")
    assert checked.check("D009").status == "problem"


def test_fix_succeeds_if_there_is_no_problem(doctor):
    code, output = doctor("--fix", "--yes")
    assert code == 0
    assert "34 ok" in output.out


def test_fix_gives_up_on_a_locked_table(checked, doctor, root, monkeypatch):
    monkeypatch.setattr("usersync.transports.lock_retry._ATTEMPTS", 2)
    root.execute("alter table auth.users disable trigger on_auth_user_created")
    with root.transaction(force_rollback=True):
        root.execute("lock table auth.users in share row exclusive mode")
        code, output = doctor("--fix", "--yes", "--only", "D004")
    assert code == 1
    assert "other sessions hold locks on it" in " ".join(output.out.split())


def test_a_fix_of_several_checks_runs_once(checked, root):
    root.execute("alter function usersync.handle_new_user() reset search_path")
    root.execute("alter table auth.users disable trigger on_auth_user_created")
    found = remedies(checked.check_all().values())
    assert [(each.codes, each.fix) for each in found] == [(("D004", "D006", "D007"), "usersync apply")]
