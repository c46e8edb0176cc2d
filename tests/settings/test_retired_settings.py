"""Settings of earlier releases: in a file, in Django's settings, and stored in a database."""

from __future__ import annotations

import pytest

from usersync.config.mapping import TableName
from usersync.config.retired import RetiredSettingWarning
from usersync.config.settings import Settings, load_settings, parse_remembered, parse_settings
from usersync.errors import SettingsError

HISTORY = TableName("app", "history")


def test_a_retired_setting_is_read_with_a_warning_that_says_why():
    with pytest.warns(RetiredSettingWarning, match=r"removal_cap has no effect any more.*--remove-orphans"):
        assert parse_settings({"removal_cap": 0.5, "key": "ident"}) == Settings(key="ident")


def test_the_retired_setting_sign_up_trigger_is_read_with_a_warning():
    with pytest.warns(RetiredSettingWarning, match="sign_up_trigger has no effect any more"):
        assert parse_settings({"sign_up_trigger": "statement"}) == Settings()


def test_a_moved_setting_is_read_with_a_warning_that_names_its_new_place():
    with pytest.warns(RetiredSettingWarning, match=r"audit_table is now \[audit\] table"):
        settings = parse_settings({"audit_table": "app.history", "audit": {"personal": ["email"]}})
    assert settings.audit_table == HISTORY
    assert settings.audit.personal == ("email",)


def test_a_setting_under_both_names_is_rejected():
    with pytest.raises(SettingsError, match=r"audit_table: also set as \[audit\] table") as caught:
        parse_settings({"audit_table": "app.history", "audit": {"table": "app.log"}})
    assert caught.value.hint


def test_a_section_that_is_not_a_table_is_still_rejected():
    with pytest.raises(SettingsError, match="audit: expected a table"):
        parse_settings({"audit_table": "app.history", "audit": 5})


def test_a_moved_setting_is_still_validated():
    with pytest.raises(SettingsError, match=r"audit\.table: "):
        parse_settings({"audit_table": 5})


def test_the_warning_names_the_file(tmp_path):
    path = tmp_path / "usersync.toml"
    path.write_text("removal_cap = 0.1\n")
    with pytest.warns(RetiredSettingWarning, match=r"^usersync\.toml: removal_cap"):
        load_settings(path)


def test_stored_settings_of_each_release_are_read():
    """There is no warning, because the next apply replaces the stored settings."""
    former = Settings().describe() | {"removal_cap": 0.05, "audit_table": "app.history", "of_the_future": 1}
    former["audit"] = {"columns": {}, "personal": ["email"], "of_the_future": 1}
    read = parse_remembered(former)
    assert (read.audit_table, read.audit.personal) == (HISTORY, ("email",))
    del former["lock_timeout_ms"]
    assert parse_remembered(former).lock_timeout_ms == Settings().lock_timeout_ms


def test_invalid_stored_settings_raise_with_their_place():
    with pytest.raises(SettingsError, match=r"^usersync\.settings \(in the database\): on_delete: 'purge'"):
        parse_remembered({"on_delete": "purge"})
