"""parse_settings() reads what describe() returns, for any names."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from usersync.config.mapping import MAX_NAME_BYTES, SOURCE_TYPES, TableName, quote
from usersync.config.settings import Settings, parse_settings

names = st.text(
    st.one_of(
        st.sampled_from("\"'.; -%\\{}@:,[]()/*"),
        st.characters(blacklist_characters="$", blacklist_categories=("C", "Z")),
    ),
    min_size=1,
    max_size=MAX_NAME_BYTES,
).filter(lambda name: len(name.encode()) <= MAX_NAME_BYTES and name.isprintable())

tables = st.builds(TableName, names.filter(lambda name: name != "usersync"), names)
keys = names.filter(lambda name: "." not in name)
paths = st.lists(keys, min_size=1, max_size=3).map(".".join)
sources = st.one_of(
    st.sampled_from(sorted(set(SOURCE_TYPES) - {"raw_app_meta_data", "raw_user_meta_data"})),
    st.sampled_from(["user_metadata", "app_metadata"]),
    paths.map(lambda path: f"app_metadata.{path}"),
    paths.map(lambda path: f"user_metadata.{path}"),
)
defaults = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(blacklist_characters="$\0", blacklist_categories=("Cs",))),
)
types = st.one_of(
    st.sampled_from(["text", "numeric(8,2)", "timestamp with time zone"]),
    tables.map(lambda table: f"{quote(table.schema)}.{quote(table.name)}"),
)
entries = st.fixed_dictionaries(
    {"from": st.one_of(sources, st.lists(sources, min_size=1, max_size=3)), "trusted": st.just(True)},
    optional={
        "default": defaults,
        "owner": st.sampled_from(["auth", "app"]),
        "type": types,
        "personal": st.booleans(),
    },
)
settings = st.builds(
    lambda users, source, columns, **others: parse_settings(
        {
            "users_table": str(users),
            "source_table": str(source) if source != users else "auth.users_elsewhere",
            "columns": columns,
            "key": next(name for name in ("id", "ident", "key") if name not in columns),
        }
        | others
    ),
    tables,
    tables,
    st.dictionaries(names, entries, min_size=1, max_size=5),
    on_delete=st.sampled_from(["anonymize", "keep", "delete"]),
    lock_timeout_ms=st.integers(10, 5000),
    key_type=st.one_of(
        st.sampled_from(["uuid", "text", "varchar", "varchar(36)", "char(36)"]),
        names.map(lambda schema: f"{quote(schema)}.citext"),
    ),
)


@given(settings)
def test_described_settings_can_be_read_again(value: Settings):
    assert parse_settings(value.describe()) == value


@given(settings)
def test_described_settings_can_be_stored_as_json(value: Settings):
    assert parse_settings(json.loads(json.dumps(value.describe()))) == value
