"""``manage.py usersync``: see test_django_example.py for it in a shell."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, ManagementUtility, call_command
from django_site import described

pytestmark = pytest.mark.newest_server


def call(*arguments, **options):
    output, errors = io.StringIO(), io.StringIO()
    call_command("usersync", *arguments, stdout=output, stderr=errors, **options)
    return output.getvalue()


def shell(capfd, *arguments):
    with pytest.raises(SystemExit) as end:
        ManagementUtility(["manage.py", *arguments]).execute()
    captured = capfd.readouterr()
    return end.value.code, captured.out, captured.err


def test_it_uses_the_database_of_the_project(site):
    found = json.loads(call("status", "--json"))
    assert found["database"].endswith(site.database.name)
    assert found["in_step"]


@pytest.mark.slow
def test_it_uses_the_settings_of_the_project(site, configure):
    configure(SETTINGS={"on_delete": "keep"})
    assert json.loads(call("plan", "--json"))["settings"]["source"] == 'USERSYNC["SETTINGS"]'
    with pytest.raises(CommandError, match="exit code 1"):  # deletions would differ
        call("apply", "--yes", "--json", "--no-sync")
    applied = json.loads(call("apply", "--yes", "--no-trial", "--json", "--no-sync"))
    assert applied["state"] == "applied"
    stored = site.owner.execute("select settings ->> 'on_delete' from usersync.settings").fetchone()
    assert stored == ("keep",)


@pytest.mark.parametrize("where", ['USERSYNC["SETTINGS"]', "usersync.toml"])
def test_it_shows_the_source_of_the_settings(site, configure, tmp_path, monkeypatch, where):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@else/where")
    if where == "usersync.toml":
        # The project's file: the command may run in any directory.
        (tmp_path / where).write_text('on_delete = "keep"')
        configure(django={"BASE_DIR": tmp_path})
    else:
        configure(SETTINGS={"on_delete": "keep"})
    document = json.loads(call("config", "--json"))
    sources = {each["name"]: each["source"] for each in document["settings"]}
    assert (sources["on_delete"], sources["users_table"]) == (where, "default")
    assert document["target"].endswith(site.database.name)
    assert not [each for each in document["variables"] if each["used"] and each["name"] == "DATABASE_URL"]


def test_a_nonzero_exit_code_raises_in_python(site):
    with site.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com')")
    with pytest.raises(CommandError, match="status: exit code 1") as raised:
        call("status")
    assert raised.value.returncode == 1


def test_another_database_can_be_named_before_or_after(site, use, cluster, capfd):
    other = cluster.clone(cluster.template("django"))
    try:
        use(default=described(site.database), other=described(other))
        assert json.loads(call("status", "--json", database="other"))["database"].endswith(other.name)
        for arguments in (
            ["--database", "other", "status", "--json"],
            ["status", "--json", "--database=other"],
        ):
            code, out, _ = shell(capfd, "usersync", *arguments)
            assert (code, json.loads(out)["database"].endswith(other.name)) == (0, True)
    finally:
        use(default=described(site.database))
        cluster.drop(other)


def test_dsn_and_config_take_precedence_over_django(site, use, tmp_path, capfd):
    dsn = site.database.dsn()
    use(default=described(site.database, PORT="1"))
    assert shell(capfd, "usersync", "status", "--dsn", dsn)[0] == 0
    assert shell(capfd, "usersync", "status")[0] == 3
    missing = tmp_path / "usersync.toml"
    assert "cannot read" in shell(capfd, "usersync", "plan", "--dsn", dsn, "--config", str(missing))[2]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--help"], 0, "Usage: manage.py usersync"),
        ([], 0, "Usage: manage.py usersync"),
        (["plan", "--help"], 0, "Usage: manage.py usersync plan"),
        (["plna"], 2, "did you mean 'plan'"),
        (["explain", "US301"], 0, "US301"),
        (["status", "--database", "nowhere"], 2, "no database 'nowhere'"),
    ],
)
def test_usage_names_manage_py(site, capfd, arguments, code, expected):
    found, out, errors = shell(capfd, "usersync", *arguments)
    assert (found, expected in out + errors) == (code, True)


def test_help_of_django(site, capfd):
    ManagementUtility(["manage.py", "help", "usersync"]).execute()
    assert "Usage: manage.py usersync" in capfd.readouterr().out


@pytest.mark.parametrize("wrong", [{"DATABASE": None}, {"SETTINGS": {"on_delete": "burn"}}, {"NONSENSE": 1}])
def test_errors_are_those_of_the_command(site, configure, capfd, wrong):
    configure(**wrong)
    code, _, errors = shell(capfd, "usersync", "plan")
    assert (code, "usersync: error US101: " in errors) == (2, True)


def test_commands_without_a_database(site, configure):
    configure(DATABASE=None)
    assert "create schema" in call("sql")
