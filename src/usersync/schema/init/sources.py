"""The likely source of a column: by a trigger's function, its name, its comment, the users' metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from usersync.config.mapping import SOURCE_TYPES, TIMESTAMPTZ, TableName, looks_like_a_privilege, parse_type
from usersync.errors import SettingsError
from usersync.schema.effects import INSERT, is_table_default, set_by_triggers
from usersync.schema.trigger_parser import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.settings import Settings
    from usersync.schema.init.survey import Metadata
    from usersync.schema.init.trial_evidence import Observed
    from usersync.schema.third_party_triggers import ThirdPartyTrigger

UNFIT = "unfit"


@dataclass(frozen=True)
class Evidence:
    """Evidence for the sources of columns, besides the table itself."""

    metadata: Metadata
    #: What a hand-written trigger writes into the columns of a new row, None where the settings cannot
    #: express it; and the function of the trigger.
    written: Mapping[str, Value | None] = field(default_factory=dict)
    trigger_function: str | None = None
    #: Columns whose value was observed in a trial, because the trigger's text does not show it.
    unread: frozenset[str] = frozenset()
    #: Columns that a trigger keeps equal to a column of the auth server's table.
    followed: frozenset[str] = frozenset()
    #: The columns that the auth server's table has.
    source_columns: frozenset[str] = frozenset()
    #: The column that a trigger sets to the time when the user is deleted.
    tombstone: str | None = None
    #: Columns that a BEFORE INSERT trigger of the users table fills.
    filled_by_table: frozenset[str] = frozenset()


def evidence_of(
    settings: Settings,
    found: tuple[ThirdPartyTrigger, ...],
    metadata: Metadata,
    catalog: Mapping[str, Any],
    observed: Observed | None = None,
) -> Evidence:
    """The evidence from hand-written triggers that write to this table."""
    written: dict[str, Value | None] = {}
    followed, function, tombstone = set[str](), None, None
    unread = frozenset[str]()
    for each in found:
        for write in each.effects:
            if write.table != settings.users_table:
                continue
            if write.kind == "insert":
                written, function = {**write.values, **written}, function or each.function
            if write.kind == "update" and write.condition.operations == {"DELETE"}:
                tombstone = next(
                    (name for name, value in write.values.items() if value and value.is_now), None
                )
            if "UPDATE" in write.condition.operations:
                follows = write.updated if write.kind == "insert" else write.values
                followed |= {name for name, value in follows.items() if _is_fetched(value)}
                written = {
                    **{name: follows[name] for name in follows if _is_fetched(follows[name])},
                    **written,
                }
    if observed and observed.made:
        # The trigger's text shows sources more precisely. The observations complete what it does not show.
        unread = frozenset(name for name, value in written.items() if value is None)
        values = _written_by_trigger(observed, catalog["users_columns"], frozenset(written))
        written = {**values, **{name: value for name, value in written.items() if value is not None}}
        function = function or "today's trigger"
    if observed and observed.made and (seen := observed.followed()) is not None:
        followed = {*seen}
        tombstone = tombstone or observed.tombstone()
    return Evidence(
        metadata,
        written,
        function,
        unread,
        frozenset(followed),
        frozenset(catalog["source_columns"]),
        tombstone,
        set_by_triggers(catalog["users_triggers"], INSERT),
    )


def _written_by_trigger(
    observed: Observed, columns: Mapping[str, Any], named: frozenset[str]
) -> Mapping[str, Value | None]:
    """The values observed in new rows, without the table's defaults."""
    return {
        name: value
        for name, value in observed.values(columns).items()
        if name in named or _is_written(value, columns[name])
    }


def _is_written(value: Value | None, column: Mapping[str, Any]) -> bool:
    """Whether a trigger wrote the value: it is neither null nor the table's default."""
    if value is None:
        return not (column["default"] or column.get("generated") or column.get("by_itself"))
    return value != Value() and not is_table_default(value, column)


def _is_fetched(value: Value | None) -> bool:
    return value is not None and bool(value.sources or value.expression)


_PLAIN = {
    "email": ("email", "email_address", "mail", "user_email"),
    "phone": ("phone", "phone_number", "mobile", "mobile_number", "telephone"),
    "is_anonymous": ("is_anonymous", "anonymous"),
    "is_sso_user": ("is_sso_user",),
    "email_confirmed_at": ("email_confirmed_at", "email_verified_at"),
    "phone_confirmed_at": ("phone_confirmed_at", "phone_verified_at"),
    "confirmed_at": ("confirmed_at",),
    "invited_at": ("invited_at",),
    "banned_until": ("banned_until",),
    "created_at": ("created_at", "registered_at", "signed_up_at", "joined_at", "member_since"),
    "deleted_at": ("deleted_at",),
    "user_metadata": ("user_metadata", "raw_user_meta_data"),
    "app_metadata": ("app_metadata", "raw_app_meta_data"),
}
_BY_NAME = {name: source for source, names in _PLAIN.items() for name in names}

#: Keys of the metadata with the same meaning, preferred first.
_SYNONYMS = {
    "full_name": ("full_name", "name"),
    "name": ("name", "full_name"),
    "display_name": ("display_name", "full_name", "name"),
    "first_name": ("first_name", "given_name"),
    "given_name": ("given_name", "first_name"),
    "last_name": ("last_name", "family_name"),
    "family_name": ("family_name", "last_name"),
    "avatar_url": ("avatar_url", "picture"),
    "avatar": ("avatar_url", "picture"),
    "picture": ("picture", "avatar_url"),
    "image": ("avatar_url", "picture"),
    "image_url": ("avatar_url", "picture"),
    "photo_url": ("avatar_url", "picture"),
    "username": ("username", "user_name", "preferred_username"),
    "user_name": ("user_name", "username", "preferred_username"),
    "handle": ("username", "user_name", "preferred_username"),
    "nickname": ("nickname", "preferred_username", "user_name"),
}

_LEFT_ALONE = {
    "updated_at": "each sign-in changes the auth server's, and this column belongs to your application",
    "modified_at": "each sign-in changes the auth server's, and this column belongs to your application",
    "last_sign_in_at": "each sign-in would write a row",
    "last_login_at": "each sign-in would write a row",
    "last_login": "each sign-in would write a row",
}


class Found(NamedTuple):
    """The sources of a column's value and the reason; or no sources, and the reason."""

    sources: tuple[str, ...]
    why: str
    default: Any = None
    #: Whether today's trigger has a security hole here.
    is_hole: bool = False


def find_sources(column: Mapping[str, Any], evidence: Evidence) -> Found:
    """The sources of a column, by its comment, its name, and the users' metadata."""
    name = usual(column["name"])
    found = _find(column, name, evidence)
    lacking = [each for each in found.sources if not _is_there(each, evidence)]
    return Found((), f"{', '.join(lacking)} does not exist in this auth server") if lacking else found


def _is_there(source: str, evidence: Evidence) -> bool:
    column = source.partition(".")[0]
    return WHOLE.get(column, column) in evidence.source_columns


def _find(column: Mapping[str, Any], name: str, evidence: Evidence) -> Found:
    if name in _LEFT_ALONE:
        return Found((), _LEFT_ALONE[name])
    commented = _commented(column)
    if commented:
        return Found(commented, "its comment says so")
    if name in _BY_NAME:
        return Found((_BY_NAME[name],), "by its name")
    return _metadata_sources(column, name, evidence)


def usual(name: str) -> str:
    """A name in snake case: ``full_name`` for ``fullName``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_IN_COMMENT = re.compile(
    r"(?:raw_)?(?P<which>user|app)_meta_?data\W+(?P<key>\w+)|auth\.users\.(?P<column>\w+)", re.IGNORECASE
)


def _commented(column: Mapping[str, Any]) -> tuple[str, ...]:
    found = _IN_COMMENT.search(column["comment"] or "")
    if found is None:
        return ()
    if found["column"]:
        source = found["column"].lower()
        mirrored = source in SOURCE_TYPES and source != "id" and not source.startswith("raw_")
        return (source,) if mirrored else ()
    if looks_like_a_privilege(column["name"]) and found["which"].lower() == "user":
        return ()
    return (f"{found['which'].lower()}_metadata.{found['key']}",)


def _metadata_sources(column: Mapping[str, Any], name: str, evidence: Evidence) -> Found:
    metadata = evidence.metadata
    from_app = [f"app_metadata.{key}" for key in dict.fromkeys((column["name"], name))]
    present = tuple(key for key in from_app if key in metadata.keys)
    if present:
        return Found(present, f"{_share(metadata, present)} have it in their app_metadata")
    if looks_like_a_privilege(name):
        return Found(
            (),
            "it looks like a privilege, and app_metadata, which only your server can write, has no such key",
        )
    from_user = [
        f"user_metadata.{key}" for key in dict.fromkeys((column["name"], *_SYNONYMS.get(name, (name,))))
    ]
    present = tuple(key for key in from_user if key in metadata.keys)
    if present:
        return Found(present, f"{_share(metadata, present)} have it in their user_metadata")
    expected = tuple(f"user_metadata.{key}" for key in _SYNONYMS.get(name, ()))
    if expected and (is_required(column) or not metadata.sampled):
        return Found(expected, "by its name; no user has it yet")
    return Found((), "the auth server has nothing for it")


def _share(metadata: Metadata, keys: tuple[str, ...]) -> str:
    most = max(metadata.keys[key] for key in keys)
    return f"{most:,} of {metadata.sampled:,} users"


def type_for(column: Mapping[str, Any], sources: tuple[str, ...]) -> str | None:  # noqa: PLR0911
    """The type for the settings; None if not needed, or ``UNFIT``."""
    delivered = {SOURCE_TYPES.get(WHOLE.get(source, source), "metadata") for source in sources}
    category, is_array = column["category"], column["is_array"]
    if len(delivered) > 1 and "uuid" in delivered:
        delivered = delivered - {"uuid"} | {"text"}
    if delivered <= {"text", "metadata"} and category == "S" and not is_array:
        return None
    if len(delivered) > 1:
        return UNFIT
    (kind,) = delivered
    if kind == "metadata":
        return name_of_type(column)
    if kind == "jsonb":
        return {"jsonb": None, "json": "json"}.get(column["type"], UNFIT)
    if kind == "timestamptz" and category == "D" and not is_array:
        return None if column["type"] in TIMESTAMPTZ else name_of_type(column)
    if kind == "uuid" and category == "S" and not is_array:
        return name_of_type(column)
    return None if kind == column["type"] and kind in {"boolean", "uuid"} else UNFIT


WHOLE = {"user_metadata": "raw_user_meta_data", "app_metadata": "raw_app_meta_data"}


def name_of_type(column: Mapping[str, Any]) -> str:
    name = column["type"]
    if column["type_schema"]:
        name = str(TableName(column["type_schema"], column["type_name"])) + (
            "[]" if column["is_array"] else ""
        )
    try:
        parse_type(name, "")
    except SettingsError:
        return UNFIT
    return str(name)


def is_required(column: Mapping[str, Any]) -> bool:
    """Whether a row requires a value for the column."""
    return bool(column["refuses_null"]) and column["default"] is None and not column["by_itself"]
