"""Random files, settings and connection strings are read, or rejected with a SettingsError."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from usersync.config.dsn import check_dsn, describe_target
from usersync.config.environment import look_everywhere
from usersync.config.settings import Settings, load_settings, parse_settings
from usersync.errors import SettingsError

KEYS = (
    st.sampled_from([*Settings().describe(), "columns", "audit", "retention", "skip", "tables"]) | st.text()
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
#: Random text with pieces of settings files, environment files and connection strings.
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "users_table",
                "columns",
                "[columns]",
                "[[",
                "=",
                '"',
                "'",
                '"""',
                "\n",
                "{",
                "}",
                "#",
                "\\",
                "\\u",
            ),
            *(
                "SUPABASE_DB_URL",
                "export ",
                "${",
                "postgresql://",
                "@",
                ":",
                "/",
                "?",
                "&",
                "%",
                "%zz",
                "[",
                "::1",
            ),
            *("user", "é", "\ufeff", "\0", "host", "5432", ","),
        ]
    )
    | st.text(max_size=5),
    max_size=15,
).map("".join)
BYTES = st.binary(max_size=60) | PIECES.map(lambda text: text.encode("utf-8", "surrogatepass"))

fast = settings(max_examples=300)


def written(name: str, content: bytes, directory: str) -> Path:
    path = Path(directory) / name
    path.write_bytes(content)
    return path


@fast
@given(BYTES)
@example(b"\xff\xfe")
@example(b"columns = 1")
@example(b"a = " + b"[" * 2000)
def test_a_random_settings_file_is_read_or_rejected(content):
    with tempfile.TemporaryDirectory() as directory:
        path = written("usersync.toml", content, directory)
        try:
            assert isinstance(load_settings(path), Settings)
        except SettingsError as error:
            assert str(error)  # noqa: PT017 - this error is the tested outcome


@fast
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_random_settings_are_read_or_rejected(data):
    try:
        assert isinstance(parse_settings(data), Settings)
    except SettingsError as error:
        assert str(error)  # noqa: PT017 - likewise


@fast
@given(BYTES)
@example(b"SUPABASE_DB_URL='\0'")
def test_a_random_environment_file_is_read_or_rejected(content):
    with tempfile.TemporaryDirectory() as directory:
        written(".env", content, directory)
        try:
            found = look_everywhere("SUPABASE_DB_URL", directory=Path(directory))
            assert all(isinstance(each.value, str) for each in found)
        except SettingsError as error:
            assert ".env" in str(error)  # noqa: PT017 - likewise


@fast
@given(PIECES | st.builds("postgresql://u:{}@h/d".format, PIECES))
def test_a_random_connection_string_is_read_or_rejected(text):
    try:
        assert describe_target(check_dsn(text))
    except SettingsError as error:
        assert "://u:" not in str(error)  # noqa: PT017 - likewise
