"""Constants and SQL expressions in the mapping: which ones the settings accept and reject."""

from __future__ import annotations

import pytest

from usersync.config.mapping import parse_column
from usersync.config.settings import parse_settings
from usersync.errors import SettingsError


def error_of(name, entry) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_column(name, entry)
    assert str(caught.value).startswith(f"columns.{name}")
    return caught.value


def test_a_constant_and_an_expression_are_filled_once_and_are_not_personal():
    for entry in ({"value": "client"}, {"expression": "left(id::text, 8)"}):
        column = parse_column("role", entry)
        assert (column.owner, column.personal, column.sources) == ("app", False, ())


@pytest.mark.parametrize("value", ["", "client", "it's", 0, 7, 2.5, True, False])
def test_a_constant_round_trips(value):
    column = parse_column("role", {"value": value})
    assert parse_column("role", column.describe()) == column
    assert column.value == value


def test_an_expression_that_reads_personal_data_is_personal():
    assert parse_column("name", {"expression": "split_part(email, '@', 1)"}).personal
    assert not parse_column("name", {"expression": "'email'"}).personal


def test_a_privilege_column_accepts_a_constant_but_no_user_metadata():
    parse_column("role", {"value": "admin"})
    parse_column("role", {"expression": "raw_app_meta_data ->> 'role'"})
    entry = {"expression": "raw_user_meta_data ->> 'role'"}
    assert "every signed-in user" in str(error_of("role", entry))
    parse_column("role", entry | {"trusted": True})


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        5,
        None,
        "id; drop table x",
        "id) from x; --",
        "id -- comment",
        "id /* comment",
        "(id",
        "id)",
        "[id)",
        "'open",
        '"open',
        "id, email",
        "$usersync$",
        "E'\\''",
        "id\0",
        "x" * 1001,
        "encrypted_password",
        'upper("recovery_token")',
    ],
)
def test_text_that_is_not_one_expression_is_rejected(text):
    error_of("name", {"expression": text})


@pytest.mark.parametrize(
    "text",
    [
        "left(id::text, 8)",
        "coalesce(email, 'a;b--c')",
        "array[1, 2]",
        "now()",
        "case when phone = ')' then 1 end",
    ],
)
def test_an_expression_is_kept_unchanged(text):
    assert parse_column("name", {"expression": f" {text} "}).expression == text


@pytest.mark.parametrize(
    "text", ["now()", "substr(md5(random()::text), 1, 8)", "current_date", "gen_random_uuid()"]
)
def test_a_mirrored_column_rejects_an_expression_that_changes_by_itself(text):
    assert "changes without a change of the user" in str(
        error_of("name", {"expression": text, "owner": "auth"})
    )
    parse_column("name", {"expression": text})
    parse_column("name", {"expression": "'now()' || email", "owner": "auth"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"value": 1, "expression": "1"}, "exclude each other"),
        ({"from": "email", "value": "x"}, "exclude each other"),
        ({"value": "x", "default": "y"}, "default requires from"),
        ({"value": []}, "expected a string"),
        ({"value": "a$b"}, "contains a $"),
    ],
)
def test_contradictory_or_invalid_entries_are_rejected(entry, message):
    assert message in str(error_of("name", entry))


def test_id_can_be_a_source():
    assert parse_column("owner", "id").sql_type == "uuid"
    assert parse_column("label", ["email", "id"]).sql_type == "text"
    settings = parse_settings({"key": "member", "columns": {"owner": "id"}})
    assert parse_settings(settings.describe()) == settings
