"""The mapping: sources, owners, types, defaults, and what must not be mapped."""

from __future__ import annotations

import pytest

from usersync.config.mapping import DEFAULT_COLUMNS, SOURCE_TYPES, Column, ValueSource, parse_column
from usersync.errors import SettingsError


def error_of(name, entry) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_column(name, entry)
    assert str(caught.value).startswith(f"columns.{name}")
    return caught.value


def test_a_source_a_list_and_a_table_are_equivalent():
    assert parse_column("e", "email") == parse_column("e", ["email"]) == parse_column("e", {"from": "email"})


@pytest.mark.parametrize("source", sorted(SOURCE_TYPES))
def test_every_column_of_the_auth_server_except_secrets_can_be_mirrored(source):
    column = parse_column("here", source)
    assert column.sources == (ValueSource(source),)
    assert column.sql_type == SOURCE_TYPES[source]


@pytest.mark.parametrize(
    "secret",
    [
        "encrypted_password",
        "confirmation_token",
        "recovery_token",
        "recovery_sent_at",
        "email_change",
        "email_change_token_new",
        "email_change_token_current",
        "phone_change",
        "phone_change_token",
        "reauthentication_token",
        "confirmation_sent_at",
    ],
)
def test_credentials_and_unconfirmed_emails_cannot_be_mapped(secret):
    assert "never copied" in str(error_of("here", secret))


@pytest.mark.parametrize("source", ["emial", "", "email.x", "user_metadata.", "user_metadata..a", 5, None])
def test_an_invalid_source_is_rejected(source):
    error_of("here", {"from": source})


def test_an_empty_list_of_sources_is_rejected():
    assert '"from" is empty' in str(error_of("here", []))


def test_the_error_for_an_unknown_source_lists_the_known_ones():
    assert error_of("here", "emial").hint == "Did you mean 'email'?"
    hint = error_of("here", "nothing_like_it").hint
    assert "email" in hint
    assert "user_metadata[.key]" in hint
    assert "password" not in hint


def test_the_error_for_an_unknown_option_suggests_a_similar_one():
    error = error_of("here", {"from": "email", "owned": "app"})
    assert "'owned'" in str(error)
    assert "owner" in error.hint
    assert error_of("here", {"form": "email"}).hint == "Did you mean 'from'?"


@pytest.mark.parametrize("entry", [5, True, None, {}, {"default": 1}])
def test_an_entry_without_a_source_is_rejected(entry):
    error_of("here", entry)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("owner", "me"),
        ("owner", ["auth"]),
        ("trusted", "yes"),
        ("trusted", 1),
        ("personal", 0),
        ("default", []),
        ("default", {"a": 1}),
        ("default", float("inf")),
        ("default", float("nan")),
        ("default", "a$b"),
        ("default", "a\0b"),
        ("default", "a\ud800b"),
    ],
)
def test_an_option_with_an_invalid_value_is_rejected_by_name(option, value):
    assert f"columns.here.{option}" in str(error_of("here", {"from": "email", option: value}))


@pytest.mark.parametrize(
    "name",
    [
        "text",
        "integer",
        "numeric(8,2)",
        "numeric(8, 2)",
        "character varying(20)",
        "double precision",
        "timestamp with time zone",
        "timestamp(3) without time zone",
        "integer[]",
        "numeric(8,2)[]",
    ],
)
def test_a_built_in_type_is_kept_unchanged(name):
    assert parse_column("here", {"from": "email", "type": name}).type == name


def test_a_type_of_the_application_is_quoted():
    assert parse_column("here", {"from": "email", "type": "app.mood"}).type == '"app"."mood"'
    assert parse_column("here", {"from": "email", "type": "app.mood[]"}).type == '"app"."mood"[]'
    assert parse_column("here", {"from": "email", "type": 'a.";x"'}).type == '"a".";x"'
    assert parse_column("here", {"from": "email", "type": "int) from a.b --"}).type == '"int) from a"."b --"'


@pytest.mark.parametrize(
    "name",
    [
        "integer[][]",
        "[]",
        "integer[3]",
        "Integer",
        "integer from pg_authid",
        "text or true",
        "integer as x",
        "text collate",
        "int;drop table x",
        "text::jsonb",
        "numeric(8,2); select 1",
        "numeric(9999999999)",
        "text -- x",
        "text\nfrom x",
        "int'",
        'a."b',
        "a.b.c",
        "a.b$c",
        "",
        5,
        ["text"],
    ],
)
def test_text_after_the_name_of_a_type_is_rejected(name):
    assert "columns.here.type" in str(error_of("here", {"from": "email", "type": name}))


@pytest.mark.parametrize(
    "name",
    [
        *("role", "is_admin", "permissions", "isAdmin", "UserRole", "accessLevel", "ADMIN", "user-role"),
        *("org id", "tenant_id", "orgId", "approved", "plan", "groups", "isadmin"),
    ],
)
def test_mapping_user_metadata_to_a_privilege_requires_trusted(name):
    error = error_of(name, {"from": ["app_metadata.x", "user_metadata.x"]})
    assert "app_metadata" in error.hint
    assert "trusted = true" in error.hint
    assert parse_column(name, {"from": "user_metadata.x", "trusted": True}).trusted
    assert parse_column(name, "app_metadata.x").name == name


@pytest.mark.parametrize(
    "name", ["full_name", "payroll", "administered_by", "planet", "controlled", "scoped"]
)
def test_a_column_name_that_only_contains_a_privilege_word_is_allowed(name):
    assert parse_column(name, "user_metadata.x").name == name


def test_names_emails_and_phones_are_personal_by_default():
    personal = {name for name, entry in DEFAULT_COLUMNS.items() if parse_column(name, entry).personal}
    assert personal == {"email", "phone", "full_name", "avatar_url"}
    assert not parse_column("nick", {"from": "user_metadata.nick", "personal": False}).personal
    assert parse_column("born", {"from": "app_metadata.born", "personal": True}).personal


def test_sources_of_different_types_are_stored_as_text():
    assert parse_column("at", ["created_at", "invited_at"]).sql_type == "timestamptz"
    assert parse_column("at", ["created_at", "email"]).sql_type == "text"
    assert parse_column("n", {"from": "user_metadata.n", "type": "integer"}).sql_type == "integer"


def test_only_a_column_with_deleted_at_alone_is_a_tombstone():
    assert parse_column("gone", "deleted_at").is_tombstone
    assert not parse_column("gone", ["deleted_at", "created_at"]).is_tombstone
    assert not Column("email", (ValueSource("email"),)).is_tombstone
