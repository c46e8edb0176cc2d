"""The values that each setting accepts, and the errors for other values."""

from __future__ import annotations

from dataclasses import fields

import pytest

from usersync.config.mapping import TableName
from usersync.config.settings import Settings, parse_settings
from usersync.errors import SettingsError


def error_of(data) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_settings(data)
    return caught.value


def test_empty_settings_give_the_defaults():
    assert parse_settings({}) == Settings()
    assert Settings().users_table == TableName("public", "users")
    assert Settings().on_delete == "anonymize"
    assert [column.name for column in Settings().columns][:2] == ["email", "phone"]


def test_every_setting_is_documented_and_can_be_read_back():
    described = Settings().describe()
    assert set(described) == {each.name for each in fields(Settings)}
    assert all(each.metadata["doc"] for each in fields(Settings))
    for key, value in described.items():
        assert getattr(parse_settings({key: value}), key) == getattr(Settings(), key)


@pytest.mark.parametrize(
    ("data", "key", "hint"),
    [
        ({"user_table": "a.b"}, "user_table", "users_table"),
        ({"on_delte": "keep"}, "on_delte", "on_delete"),
        ({"colums": {}}, "colums", "columns"),
        ({"xyz": 1}, "xyz", "on_delete"),
    ],
)
def test_the_error_for_an_unknown_setting_suggests_a_similar_one(data, key, hint):
    error = error_of(data)
    assert repr(key) in str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("users_table", 5),
        ("users_table", ""),
        ("users_table", "a.b.c"),
        ("users_table", 'a."b'),
        ("users_table", "."),
        ("users_table", ["public", "users"]),
        ("users_table", "public. users"),
        ("users_table", "auth.users"),
        ("users_table", "usersync.settings"),
        ("source_table", None),
        ("key", 7),
        ("key", ""),
        ("on_delete", "purge"),
        ("on_delete", ["keep"]),
        ("on_delete", True),
        ("lock_timeout_ms", "250"),
        ("lock_timeout_ms", 250.0),
        ("lock_timeout_ms", True),
        ("lock_timeout_ms", 9),
        ("lock_timeout_ms", 5001),
        ("columns", []),
        ("columns", "email"),
    ],
)
def test_an_invalid_value_is_rejected_with_the_name_of_its_key(key, value):
    assert str(error_of({key: value})).startswith(f"{key}:")


@pytest.mark.parametrize(("key", "value"), [("lock_timeout_ms", 10), ("lock_timeout_ms", 5000)])
def test_the_limits_of_lock_timeout_ms_are_allowed(key, value):
    assert getattr(parse_settings({key: value}), key) == value


def test_a_similar_choice_is_suggested():
    assert "anonymize" in error_of({"on_delete": "anonymise"}).hint


def test_the_key_cannot_be_mapped():
    assert str(error_of({"key": "email"})).startswith("columns.email:")


def test_on_delete_soft_requires_a_column_for_deleted_at():
    error = error_of({"on_delete": "soft", "columns": {"email": "email"}})
    assert str(error).startswith("on_delete:")
    assert 'deleted_at = "deleted_at"' in error.hint
    columns = {"gone": "deleted_at"}
    assert parse_settings({"on_delete": "soft", "columns": columns}).tombstone.name == "gone"


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("users", "public", "users"),
        ("app.members", "app", "members"),
        ("App.Members", "App", "Members"),
        ('"a.b"."c""d"', "a.b", 'c"d'),
        ('app."we""ird; drop table x"', "app", 'we"ird; drop table x'),
        ('"  "." x"', "  ", " x"),
        ("schéma.täble", "schéma", "täble"),
        ("a." + "b" * 63, "a", "b" * 63),
        ("a.b c", "a", "b c"),
    ],
)
def test_a_table_may_have_any_name_that_postgresql_supports(text, schema, name):
    read = parse_settings({"users_table": text}).users_table
    assert read == TableName(schema, name)
    assert parse_settings({"users_table": str(read)}).users_table == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.b$c", "$"),
        ("a." + "b" * 64, "63 bytes"),
        ("a." + "ü" * 32, "63 bytes"),
        ("a.b\0c", "cannot be printed"),
        ("a.b\nc", "cannot be printed"),
        ("a.b\u202ec", "cannot be printed"),
        ("a.b\ud800", "cannot be printed"),
    ],
)
def test_a_name_that_postgresql_would_change_is_rejected(text, says):
    assert says in str(error_of({"users_table": text}))
    assert says in str(error_of({"key": text}))
    assert says in str(error_of({"columns": {text: "email"}}))
