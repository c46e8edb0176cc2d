"""What each setting takes, what it refuses, and what the refusal says."""

from __future__ import annotations

from dataclasses import fields

import pytest

from usersync.config.mapping import TableName
from usersync.config.settings import Settings, parse_settings
from usersync.errors import SettingsError


def refusal(data) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_settings(data)
    return caught.value


def test_nothing_set_gives_the_defaults():
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
def test_an_unknown_setting_is_named_and_a_near_one_suggested(data, key, hint):
    error = refusal(data)
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
def test_a_value_of_the_wrong_kind_or_size_is_refused_by_the_name_of_its_key(key, value):
    assert str(refusal({key: value})).startswith(f"{key}:")


@pytest.mark.parametrize(("key", "value"), [("lock_timeout_ms", 10), ("lock_timeout_ms", 5000)])
def test_the_limits_of_the_lock_time_out_are_allowed(key, value):
    assert getattr(parse_settings({key: value}), key) == value


def test_a_near_choice_is_suggested():
    assert "anonymize" in refusal({"on_delete": "anonymise"}).hint


def test_the_key_cannot_be_mapped():
    assert str(refusal({"key": "email"})).startswith("columns.email:")


def test_soft_deletion_needs_a_column_for_the_time():
    error = refusal({"on_delete": "soft", "columns": {"email": "email"}})
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
def test_a_table_may_have_any_name_that_postgresql_can_carry(text, schema, name):
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
def test_a_name_that_would_not_arrive_unchanged_is_refused(text, says):
    assert says in str(refusal({"users_table": text}))
    assert says in str(refusal({"key": text}))
    assert says in str(refusal({"columns": {text: "email"}}))
