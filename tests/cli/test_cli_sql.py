from __future__ import annotations

import re
import time

import pytest


def test_the_script_is_printed_without_a_connection(usersync):
    done = usersync("sql")
    assert done.code == 0
    assert done.out.startswith("-- usersync ")
    assert done.out.endswith("$install$;\n")
    data = usersync("sql", "--json").json
    assert data["sql"] == done.out
    assert data["texts"] == [done.out]


@pytest.mark.newest_server
def test_the_printed_script_installs_usersync(usersync, postgres, database):
    postgres.execute(usersync("sql").out.encode())
    assert usersync("plan", "--dsn", database.dsn(), "--json").json["state"] == "up to date"


def test_the_script_is_written_to_a_file(usersync, directory):
    done = usersync("sql", "--output", "install.sql")
    assert done.code == 0
    assert "psql --set ON_ERROR_STOP=1 --file install.sql" in done.out
    assert (directory / "install.sql").read_text() == usersync("sql").out


def test_supabase_writes_a_migration_file(usersync, directory):
    (directory / "app" / "supabase").mkdir(parents=True)
    done = usersync("sql", "--supabase", "app")
    assert done.code == 0
    (file,) = (directory / "app/supabase/migrations").iterdir()
    assert re.fullmatch(r"\d{14}_usersync\.sql", file.name)
    assert "\nbegin;" not in file.read_text()
    assert "supabase db push" in done.out


def test_without_option_the_migration_folder_is_in_the_current_directory(usersync, directory):
    (directory / "supabase").mkdir()
    data = usersync("sql", "--json", "--supabase").json
    assert data["next"][0] == "supabase db push"
    assert (directory / data["path"]).is_file()


def test_an_unchanged_migration_is_not_written_again(usersync, directory):
    (directory / "supabase").mkdir()
    first = usersync("sql", "--json", "--supabase").json
    again = usersync("sql", "--json", "--supabase").json
    assert (first["written"], again["written"]) == (True, False)
    assert again["path"] == first["path"]
    assert "Already in" in usersync("sql", "--supabase").out
    assert len(list((directory / "supabase/migrations").iterdir())) == 1
    (directory / first["path"]).write_text("-- edited")
    time.sleep(1.1)  # names of migrations have a resolution of one second
    assert usersync("sql", "--json", "--supabase").json["written"] is True


def test_a_script_in_several_parts_becomes_several_files_in_order(usersync, directory, monkeypatch):
    (directory / "supabase").mkdir()
    monkeypatch.setattr("usersync.cli.sql.install_script", lambda _: ("-- 1\n", "-- 2\n"))
    assert usersync("sql").out == "-- 1\n\n-- 2\n"
    done = usersync("sql", "--output", "install.sql", "--json").json
    assert done["paths"] == ["install.sql", "install_2.sql"]
    assert done["next"][:2] == [f"psql --set ON_ERROR_STOP=1 --file {path}" for path in done["paths"]]
    first, second = usersync("sql", "--supabase", "--json").json["paths"]
    assert first < second
    assert [(directory / each).read_text() for each in (first, second)] == ["-- 1\n", "-- 2\n"]
    assert usersync("sql", "--supabase", "--json").json["written"] is False


def test_no_migration_is_written_without_a_supabase_project(usersync, directory):
    done = usersync("sql", "--supabase")
    assert done.code == 2
    assert "supabase init" in done.err
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("path", ["missing/x.sql", "file/x.sql"])
def test_the_error_names_a_path_that_cannot_be_written(usersync, directory, path):
    (directory / "file").write_text("")
    done = usersync("sql", "--output", path)
    assert done.code == 2
    assert f"cannot write {path}" in done.err


def test_supabase_and_output_together_are_refused(usersync):
    assert usersync("sql", "--supabase", "--output", "x").code == 2
