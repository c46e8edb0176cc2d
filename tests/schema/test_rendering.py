"""Rendering of SQL files and their placeholders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest

from fixtures_project import NAMES
from usersync.config.settings import Settings, parse_settings
from usersync.sql.render import (
    Renderer,
    UnknownPlaceholderError,
    UnusedPlaceholderError,
    read_sql,
    render_bundle,
)
from usersync.sql.script import install_parts

DIRECTORIES = ("statements", "migrations", "functions", "triggers")
FILES = sorted(
    f"{directory}/{file.name}"
    for directory in DIRECTORIES
    for file in files("usersync.sql").joinpath(directory).iterdir()
)


def test_a_placeholder_without_a_value_is_an_error():
    for text in ('"@no_such_name"', "'@no_such_value'"):
        with pytest.raises(UnknownPlaceholderError, match=text):
            Renderer(Settings()).render(f"select {text}")


def test_a_value_without_a_placeholder_is_an_error():
    renderer = Renderer(Settings())
    renderer.render("select '@key'")
    with pytest.raises(UnusedPlaceholderError, match='"@users_table"'):
        renderer.check_all_used()


def test_every_file_is_rendered_without_leftover_placeholders():
    bundle = render_bundle(Settings())
    rendered = repr(bundle)
    assert not re.search(r"""["']@[a-z_]+["']""", rendered)
    for path in FILES:
        assert '"@' not in Renderer(Settings()).render(read_sql(path)), path


def test_inserted_values_are_not_rendered_again():
    settings = parse_settings({"users_table": "\"'@key'\".\"'@settings'\"", "columns": {'"@key"': "email"}})
    assert json.dumps("'@settings'")[1:-1] in render_bundle(settings).create_users_table


def test_the_checksum_of_a_migration_does_not_depend_on_the_settings():
    other = parse_settings({"users_table": "app.members", "key": "x"})
    assert [each.checksum for each in render_bundle(Settings()).migrations] == [
        each.checksum for each in render_bundle(other).migrations
    ]


def test_each_function_has_its_signature_in_its_file_and_a_comment():
    for function in render_bundle(Settings()).functions:
        name = function.signature.partition("(")[0]
        assert f"create or replace function {name}(" in function.text
        assert re.search(
            rf"comment on function {re.escape(function.signature)} is\s+'usersync: ", function.text
        )


@pytest.mark.newest_server
def test_each_file_is_valid_sql_before_it_is_rendered(superuser):
    """The server parses the text in a block that returns first, and function bodies by creating them."""
    superuser.execute(read_sql("statements/bootstrap.sql"))
    # Tables whose row types the functions use.
    for migration in (
        *("0001_core", "0002_audit", "0012_log_fields", "0014_feed"),
        *("0016_subscriptions", "0017_attempts", "0018_backfill", "0020_noted_events"),
    ):
        superuser.execute(read_sql(f"migrations/{migration}.up.sql"))
    superuser.execute("set check_function_bodies = on")
    invalid = {}
    for path in FILES:
        text = read_sql(path)
        body = text if text.rstrip().endswith(";") else text + ";"
        try:
            superuser.execute(_parsed(body))
            with superuser.transaction(force_rollback=True):
                for block in re.findall(r"do \$usersync\$(.*?)\$usersync\$", text, re.DOTALL):
                    superuser.execute(
                        "create or replace function usersync.block() returns void language plpgsql as "
                        f"$b${block}$b$"
                    )
                if path.startswith("functions/"):
                    # The only literal that the server parses before the function is called.
                    superuser.execute(re.sub(r"set lock_timeout = '@\w+'\n", "", text))
        except psycopg.Error as error:
            invalid[path] = str(error)
    assert invalid == {}


def _parsed(body: str) -> str:
    return f"do $check$ begin return;\n{body}\nend $check$"


@pytest.mark.newest_server
def test_an_invalid_sql_file_is_detected(superuser):
    with pytest.raises(psycopg.errors.SyntaxError):
        superuser.execute(_parsed("selec '@key';"))


#: Rules that do not apply here, with the reason.
EXCEPTIONS = {
    "adding-field-with-default": "usersync.settings has one row, so a rewrite takes no time",
    "prefer-bigint-over-int": "numbers of migrations, parts, attempts and rows of a page stay small",
}


@pytest.mark.parametrize("names", NAMES)
def test_squawk_finds_nothing_in_the_script(tmp_path, names):
    squawk = Path(sys.executable).with_name("squawk")
    if not squawk.exists():
        pytest.skip("squawk is not installed")
    file = tmp_path / "install.sql"
    parts = [part for parts in install_parts(parse_settings(NAMES[names][0])) for part in parts]
    timeouts = "set local lock_timeout = '2s';\nset local statement_timeout = '60s';\n"
    file.write_text(timeouts + "\n".join(parts), encoding="utf-8")
    options = ["--reporter", "json", "--pg-version", "15", f"--exclude={','.join(EXCEPTIONS)}"]
    options.append("--assume-in-transaction")
    done = subprocess.run([squawk, *options, file], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == []
