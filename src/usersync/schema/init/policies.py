"""``on_delete``, ``on_soft_delete`` and ``skip`` as today's triggers and foreign keys imply; notes."""

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
    """The setting ``on_delete`` that matches today's behaviour, and the reason in words.

    ``tombstone`` is the column for the time of deletion, if there is one.
    """
    value, why = _by_key(chosen, about) or _by_triggers(chosen, about, found, tombstone)
    seen = observed.fate("hard deletion", tombstone)
    if seen is None or seen == value:
        return value, why
    return seen, f"As today: a user was deleted in the trial, and {_SEEN[seen]}. Or: {_others(seen)}."


_SEEN = {
    "delete": "the row was deleted",
    "keep": "the row stayed unchanged",
    "soft": "the row got the time of deletion",
    "anonymize": "columns of the row were changed",
}


def _others(value: str) -> str:
    return ", ".join(each for each in ("anonymize", "soft", "keep", "delete") if each != value)


def _by_key(chosen: Choice, about: Mapping[str, Any]) -> tuple[str, str] | None:
    """From the foreign key to the auth server's table."""
    table, key = chosen.table, chosen.key
    drop = f"alter table {table.quoted} drop constraint {key.reference};"
    if key.on_delete == "c":
        return "delete", (
            f"As today: the foreign key {key.reference} deletes the row with the user. To keep the row "
            f"without personal data instead, drop the foreign key ({drop}) and set anonymize."
            f"{_blocked(about)}"
        )
    if key.on_delete in _BLOCKING:
        return "anonymize", (
            f"{_EMPTIED} But the foreign key {key.reference} prevents the auth server from deleting a "
            f'user who has a row ("Database error deleting user"). Drop it: {drop}'
        )
    if key.on_delete == "n":
        return "anonymize", (
            f"{_EMPTIED} But the foreign key {key.reference} empties {key.name} when the auth server "
            f"deletes a user, before usersync can find the row. Drop it: {drop}"
        )
    return None


def _by_triggers(
    chosen: Choice, about: Mapping[str, Any], found: tuple[ThirdPartyTrigger, ...], tombstone: str | None
) -> tuple[str, str]:
    """From what a trigger does when a user is deleted."""
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
        "As today: the row of a deleted user stays unchanged. To empty its personal columns, set anonymize. "
        "Or: soft, delete."
    )


def on_soft_delete_for(
    observed: Observed, tombstone: str | None, followed: frozenset[str]
) -> tuple[str, str]:
    """The setting ``on_soft_delete`` that matches today's behaviour, and the reason in words.

    ``followed`` are the columns that a hand-written trigger updates today.
    """
    value = observed.fate("soft deletion", tombstone) or ("anonymize" if followed else "keep")
    if value == "anonymize":
        return value, (
            "A soft deletion (the admin API's should_soft_delete) keeps the user in auth.users, overwrites "
            "the address and empties the metadata there. Today a trigger then changes the row too. Or: soft, "
            "keep, delete."
        )
    if value == "keep":
        return value, (
            "As today: a soft deletion (the admin API's should_soft_delete) keeps the user in auth.users, "
            "and the row stays unchanged. Or: anonymize, soft, delete."
        )
    return value, f"As today: a user was soft-deleted in the trial, and {_SEEN[value]}. Or: {_others(value)}."


def anonymized(personal: Collection[str], about: Mapping[str, Any]) -> str:
    """What ``anonymize`` does to the personal columns, as a sentence."""
    required = {each["name"] for each in about["columns"] if each["refuses_null"]}
    parts = []
    if names := tuple(name for name in personal if name not in required):
        parts.append(f"sets {listed(names)} to null")
    if names := tuple(name for name in personal if name in required):
        parts.append(f"replaces {listed(names)} (NOT NULL) with a placeholder")
    return f"anonymize {' and '.join(parts)}. " if parts else ""


#: The users who get no row, by the condition under which a trigger creates one.
_SKIPPED = {"confirmed": "unconfirmed", "permanent": "anonymous"}


def skipped_today(
    table: TableName, found: tuple[ThirdPartyTrigger, ...], observed: Observed
) -> tuple[str, ...]:
    """The users who get no row today: as observed, or else by the conditions of the triggers."""
    if observed.is_known and observed.made:
        return observed.skipped()
    inserts = [each for one in found for each in one.effects if each.kind == "insert" and each.table == table]
    if not inserts:
        return ()
    only = frozenset.intersection(*(each.condition.only for each in inserts))
    return tuple(sorted(_SKIPPED[each] for each in only))


_EMPTIED = (
    "The row of a deleted user stays, and its mapped personal columns are emptied. Other columns stay "
    "unchanged. Or: soft, keep, delete."
)


def _blocked(about: Mapping[str, Any]) -> str:
    blocking = [
        f"{each['table']} ({', '.join(each['columns'])})"
        for each in about["referrers"]
        if each["to"] == "users" and each["on_delete"] in _BLOCKING
    ]
    return (
        f" A user cannot be deleted if a row of {listed(tuple(blocking))} refers to the user's row."
        if blocking
        else ""
    )


def notes_on_users(
    settings: Settings, about: Mapping[str, Any], metadata: Metadata | None, fit: Fit | None
) -> Iterator[str]:
    """Notes about constraints, and about the values of existing users."""
    for rule in about["constraints"]:
        if rule["deferred"]:
            yield f"{rule['name']} is checked at COMMIT: usersync checks it earlier, at each sign-up."
    if not about["is_ours"]:
        yield "The mapping was not tried: the table belongs to another role, whose code its checks would run."
    elif metadata is None or fit is None:
        yield "The mapping was not tried: reading a sample of the users took too long or failed."
    if fit is not None and fit.tried:
        yield from _values(settings, about, fit)
        yield from _rules(about, fit)


def _values(settings: Settings, about: Mapping[str, Any], fit: Fit) -> Iterator[str]:
    columns = {column["name"]: column for column in about["columns"]}
    of_all = f"of {fit.tried:,} sampled users"
    for each in settings.columns:
        column = columns[each.name]
        if times := fit.times("misfit", each.name):
            yield f"{times:,} {of_all} have a value that does not fit into {each.name} ({column['type']})."
        has_default = each.takes_table_default and column["default"] is not None
        if column["refuses_null"] and not has_default and (times := fit.times("absent", each.name)):
            yield f"{times:,} {of_all} have no value for {each.name}, which is NOT NULL."
        if times := fit.times("taken", each.name):
            yield f"{times:,} {of_all} have a value for {each.name} (UNIQUE) that another row has."


def _rules(about: Mapping[str, Any], fit: Fit) -> Iterator[str]:
    for rule in about["constraints"]:
        if times := fit.times("refused", rule["name"]):
            tried = f"{times:,} of {fit.tried:,} sampled users"
            yield f"{tried} violate {rule['name']}: {rule['definition']}."
        if fit.times("untried", rule["name"]):
            yield f"{rule['name']} could not be checked: {rule['definition']}."
