"""What is round a users table: what becomes of a row whose user goes, and what would refuse a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.schema.third_party_triggers import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings
    from usersync.schema.init.survey import Fit, Metadata
    from usersync.schema.init.table_choice import Choice
    from usersync.schema.init.trial_evidence import Observed
    from usersync.schema.third_party_triggers import ThirdPartyTrigger

_BLOCKING = {"a", "r"}


def on_delete_for(
    chosen: Choice,
    about: Mapping[str, Any],
    found: tuple[ThirdPartyTrigger, ...],
    observed: Observed,
    tombstone: str | None,
) -> tuple[str, str]:
    """What is to become of the row of a deleted user, and in words why: as today.

    ``tombstone`` is the column that takes the time of deletion, if there is one.
    """
    value, why = _by_key(chosen, about) or _by_triggers(chosen, about, found, tombstone)
    seen = observed.fate("hard deletion", tombstone)
    if seen is None or seen == value:
        return value, why
    return seen, f"As today: a user was deleted in the trial, and {_SEEN[seen]}. Or: {_others(seen)}."


_SEEN = {
    "delete": "the row was deleted",
    "keep": "the row stayed as it was",
    "soft": "the row got the time of deletion",
    "anonymize": "columns of the row were changed",
}


def _others(value: str) -> str:
    return ", ".join(each for each in ("anonymize", "soft", "keep", "delete") if each != value)


def _by_key(chosen: Choice, about: Mapping[str, Any]) -> tuple[str, str] | None:
    """By what the foreign key to the auth server's table does."""
    table, key = chosen.table, chosen.key
    drop = f"alter table {table.quoted} drop constraint {key.reference};"
    if key.on_delete == "c":
        return "delete", (
            f"As today: the foreign key {key.reference} deletes the row with the user. To keep a row "
            f"without the person instead, drop that key ({drop}) and say anonymize.{_blocked(about)}"
        )
    if key.on_delete in _BLOCKING:
        return "anonymize", (
            f"{_EMPTIED} But the foreign key {key.reference} keeps the auth server from deleting a user who "
            f'has a row here ("Database error deleting user"). Drop it: {drop}'
        )
    if key.on_delete == "n":
        return "anonymize", (
            f"{_EMPTIED} But the foreign key {key.reference} empties {key.name} when the auth server deletes "
            f"a user: the row has no user any more before usersync can handle it. Drop it: {drop}"
        )
    return None


def _by_triggers(
    chosen: Choice, about: Mapping[str, Any], found: tuple[ThirdPartyTrigger, ...], tombstone: str | None
) -> tuple[str, str]:
    """By what a trigger does when a user is deleted."""
    writes = [
        (each.function, write)
        for each in found
        for write in each.effects
        if write.table == chosen.table and "DELETE" in write.condition.operations
    ]
    for function, write in writes:
        if write.kind == "delete":
            return "delete", f"As today: {function} deletes the row with the user.{_blocked(about)}"
        value = write.values.get(tombstone) if tombstone and write.kind == "update" else None
        if value is not None and value.is_now:
            return "soft", f"As today: {function} sets {tombstone}. Or: anonymize, keep, delete."
    return "keep", (
        "As today: the row of a deleted user stays as it is. To empty its personal columns, say anonymize. "
        "Or: soft, delete."
    )


def on_soft_delete_for(
    observed: Observed, tombstone: str | None, followed: frozenset[str]
) -> tuple[str, str]:
    """What is to become of the row of a soft-deleted user: as today.

    ``followed`` are the columns that a hand-written trigger updates today.
    """
    value = observed.fate("soft deletion", tombstone) or ("anonymize" if followed else "keep")
    if value == "anonymize":
        return value, (
            "A soft deletion (the admin API's should_soft_delete) keeps the user in auth.users, overwrites "
            "the address and empties the metadata there. Today a trigger changes the row with it. Or: soft, "
            "keep, delete."
        )
    if value == "keep":
        return value, (
            "As today: a soft deletion (the admin API's should_soft_delete) keeps the user in auth.users, "
            "and the row as it is. Or: anonymize, soft, delete."
        )
    return value, f"As today: a user was soft-deleted in the trial, and {_SEEN[value]}. Or: {_others(value)}."


def anonymized(personal: Collection[str], about: Mapping[str, Any]) -> str:
    """What ``anonymize`` does to each of the personal columns, as a sentence."""
    required = {each["name"] for each in about["columns"] if each["refuses_null"]}
    parts = []
    if names := tuple(name for name in personal if name not in required):
        parts.append(f"sets {listed(names)} to null")
    if names := tuple(name for name in personal if name in required):
        parts.append(f"replaces {listed(names)} (NOT NULL) with a placeholder")
    return f"anonymize {' and '.join(parts)}. " if parts else ""


#: Who gets no row, by the condition under which a trigger makes one.
_SKIPPED = {"confirmed": "unconfirmed", "permanent": "anonymous"}


def skipped_today(
    table: TableName, found: tuple[ThirdPartyTrigger, ...], observed: Observed
) -> tuple[str, ...]:
    """Who gets no row today: as it was seen, else as the conditions of the triggers say."""
    if observed.is_known and observed.made:
        return observed.skipped()
    makes = [each for one in found for each in one.effects if each.kind == "insert" and each.table == table]
    if not makes:
        return ()
    only = frozenset.intersection(*(each.condition.only for each in makes))
    return tuple(sorted(_SKIPPED[each] for each in only))


_EMPTIED = (
    "The row of a deleted user stays, and its personal columns are emptied, as far as they are mapped; "
    "others keep what is in them. Or: soft, keep, delete."
)


def _blocked(about: Mapping[str, Any]) -> str:
    blocking = [
        f"{each['table']} ({', '.join(each['columns'])})"
        for each in about["referrers"]
        if each["to"] == "users" and each["on_delete"] in _BLOCKING
    ]
    return f" A user whom {listed(tuple(blocking))} refers to cannot be deleted so." if blocking else ""


def notes_on_users(
    settings: Settings, about: Mapping[str, Any], metadata: Metadata | None, fit: Fit | None
) -> Iterator[str]:
    """What would refuse users, or cost them time; and how those who are there would fare."""
    for rule in about["constraints"]:
        if rule["deferred"]:
            yield f"{rule['name']} is checked at COMMIT: usersync checks it earlier, in each sign-up."
    if not about["is_ours"]:
        yield "The table belongs to another role, whose code its checks would run: nothing was tried."
    elif metadata is None or fit is None:
        yield "The users who are there could not be looked at in time, so nothing was tried on them."
    if fit is not None and fit.tried:
        yield from _values(settings, about, fit)
        yield from _rules(about, fit)


def _values(settings: Settings, about: Mapping[str, Any], fit: Fit) -> Iterator[str]:
    columns = {column["name"]: column for column in about["columns"]}
    of_all = f"of {fit.tried:,} users tried"
    for each in settings.columns:
        column = columns[each.name]
        if times := fit.times("misfit", each.name):
            yield f"{times:,} {of_all} have a value that does not fit into {each.name} ({column['type']})."
        has_default = each.takes_table_default and column["default"] is not None
        if column["refuses_null"] and not has_default and (times := fit.times("absent", each.name)):
            yield f"{times:,} {of_all} have nothing for {each.name}, which refuses null."
        if times := fit.times("taken", each.name):
            yield f"{times:,} {of_all} have a value for {each.name} that another row has, and it is unique."


def _rules(about: Mapping[str, Any], fit: Fit) -> Iterator[str]:
    for rule in about["constraints"]:
        if times := fit.times("refused", rule["name"]):
            tried = f"{times:,} of {fit.tried:,} users tried"
            yield f"{tried} would be refused by {rule['name']}: {rule['definition']}."
        if fit.times("untried", rule["name"]):
            yield f"{rule['name']} could not be tried: {rule['definition']}."
