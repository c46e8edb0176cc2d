"""Where settings are read from, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from usersync.config.settings import Settings, load_settings
from usersync.errors import SettingsError


def error_of(path=None, directory=None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, directory=directory)
    return caught.value


def test_a_directory_without_settings_gives_the_defaults(tmp_path):
    assert load_settings(directory=tmp_path) == Settings()


def test_settings_are_read_from_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "usersync.toml").write_text('on_delete = "keep"\n')
    monkeypatch.chdir(tmp_path)
    assert load_settings().on_delete == "keep"


def test_usersync_toml_comes_before_pyproject_toml(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.usersync]\non_delete = "delete"\n')
    assert load_settings(directory=tmp_path).on_delete == "delete"
    (tmp_path / "usersync.toml").write_text('on_delete = "keep"\n')
    assert load_settings(directory=tmp_path).on_delete == "keep"


@pytest.mark.parametrize("text", ["", "[tool]\n", "[tool.ruff]\n", "tool = 5\n", "[project]\nname = 'x'\n"])
def test_a_pyproject_without_tool_usersync_gives_the_defaults(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert load_settings(directory=tmp_path) == Settings()


@pytest.mark.parametrize("text", ["tool.usersync = 5", "tool.usersync = 'x'", "tool.usersync = []"])
def test_a_section_that_is_not_a_table_raises_with_its_place(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert str(error_of(directory=tmp_path)).startswith("pyproject.toml [tool.usersync]: expected a table")


def test_an_error_names_the_file_and_the_key(tmp_path):
    (tmp_path / "usersync.toml").write_text("[columns]\nemail = 'emial'\n")
    error = error_of(directory=tmp_path)
    assert str(error).startswith("usersync.toml: columns.email: ")
    assert error.hint


def test_columns_are_read_from_toml_in_their_order(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text('users_table = "app.members"\n[columns]\nz = "email"\n"a.b" = { from = "phone" }\n')
    settings = load_settings(file)
    assert [column.name for column in settings.columns] == ["z", "a.b"]
    assert str(settings.users_table) == "app.members"


def test_a_byte_order_mark_is_ignored(tmp_path):
    file = tmp_path / "x.toml"
    file.write_bytes(b'\xef\xbb\xbfon_delete = "keep"\r\n')
    assert load_settings(file).on_delete == "keep"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"on_delete = ", "not valid TOML"),
        (b"on_delete = 'keep'\non_delete = 'keep'", "not valid TOML"),
        (b"x = " + b"[" * 50_000, "not valid TOML"),
        (b"lock_timeout_ms = " + b"9" * 10_000, "not valid TOML"),
        (b"\x00\x01\x02", "not valid TOML"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\xb8\xc0", "not UTF-8 text"),
        (b"#" * (1 << 20) + b"#", "larger than 1024 KiB"),
    ],
    ids=["broken", "twice", "nested", "digits", "control", "utf-16", "binary", "huge"],
)
def test_a_file_that_is_not_toml_is_rejected_by_name(tmp_path, content, says):
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    error = error_of(file)
    assert says in str(error)
    assert str(file) in str(error)


def test_a_named_file_that_does_not_exist_raises(tmp_path):
    error = error_of(tmp_path / "missing.toml")
    assert "missing.toml" in str(error)
    assert "No such file" in str(error)


def test_a_directory_as_the_settings_file_raises(tmp_path):
    assert "directory" in str(error_of(tmp_path))


def test_an_endless_file_is_not_read_to_its_end():
    endless = Path("/dev/zero")
    if not endless.exists():
        pytest.skip("this platform has no /dev/zero")
    assert "larger than" in str(error_of(endless))
