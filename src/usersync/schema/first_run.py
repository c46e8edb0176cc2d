"""Preview of the first sync: the rows that it creates, the values that it writes, the triggers that fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.errors import DatabaseError
from usersync.models import Finding
from usersync.schema.effects import BEFORE, INSERT
from usersync.schema.third_party_triggers import listed
from usersync.transports.steps import PIN_SEARCH_PATH, query_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Steps

#: This function exists only after the installation. PostgreSQL 16 has an equivalent, pg_input_is_valid.
_IS_VALID, _HAS_INPUT_IS_VALID = "usersync.is_valid_input(", 160000


def preview(settings: Settings, bundle: Bundle, inspection: Inspection) -> Steps[Finding | None]:
    """A finding about what the first sync would do; None if it changes nothing."""
    try:
        counted = yield from count_first_run(bundle, inspection)
    except DatabaseError as error:
        return _of_first_run(settings, f"the changes of the first run could not be counted: {error}")
    if counted is None:
        return _of_first_run(
            settings,
            "the values that the first run would overwrite cannot be counted before usersync is installed "
            "(PostgreSQL older than 16)",
            "-- To count it, install without the first run, and compare:\n"
            "usersync apply --no-sync\nusersync sync --dry-run",
        )
    does, stays = list(_first_run(counted)), list(_left_alone(counted))
    run = "the first run" if inspection.noted is None else "the next run"
    if not does and not stays:
        return None
    sentences = [
        f"{run} would {', '.join(does)}" if does else f"{run} would write nothing",
        *([f"{' and '.join(stays)} {_stay(counted)}"] if stays else []),
    ]
    triggers = triggers_fired(inspection) if counted["missing"] else ()
    if triggers:
        sentences.append(f"each new row fires {listed(triggers)}, for old users too")
    advice = []
    if triggers:
        advice.append(
            "-- If these triggers send mails to old users, for example: install without the first run, "
            "create a few rows, and check what the triggers do. Then create the other rows in increments, or "
            "none:\n"
            "usersync apply --no-sync\n"
            "usersync sync --create-missing --max 10"
        )
    if counted["stale"]:
        advice.append(
            '-- If your application writes a column, set owner = "app": usersync fills the column when it '
            "creates the row, and never changes it again. Rollback does not restore overwritten values."
        )
    message = f"in {settings.users_table}, {'; '.join(sentences)}"
    return _of_first_run(settings, message, "\n".join(advice) or None, decision=bool(triggers))


def count_first_run(bundle: Bundle, inspection: Inspection) -> Steps[Mapping[str, Any] | None]:
    """How many rows the first sync would create and change, by column; None if they cannot be counted yet."""
    sql = bundle.preview
    if inspection.noted is None and _IS_VALID in sql:
        if inspection.catalog["server_version"] < _HAS_INPUT_IS_VALID:
            return None
        sql = sql.replace(_IS_VALID, "pg_input_is_valid(")
    return (yield from query_row(PIN_SEARCH_PATH + sql))


def is_question(finding: Finding | None) -> bool:
    """Whether a person has to decide about the first sync, because it fires triggers of the application."""
    return finding is not None and finding.decision


def _first_run(counted: Mapping[str, Any]) -> Iterator[str]:
    if counted["missing"]:
        # A constraint of the table may refuse some of them.
        yield f"try to create {_rows(counted['missing'])}"
    if counted["filled"]:
        yield f"fill empty values in {counted['filled']:,} ({_by_column(counted['filled_columns'])})"
    if counted["stale"]:
        yield f"overwrite values in {counted['stale']:,} ({_by_column(counted['columns'])})"


def _by_column(times: Mapping[str, int]) -> str:
    return ", ".join(f"{name} in {number:,}" for name, number in sorted(times.items()))


def triggers_fired(inspection: Inspection) -> tuple[str, ...]:
    """The application's triggers that a new row of the users table fires, and their functions."""
    return tuple(
        f"{each['name']} ({each['function']}())"
        for each in inspection.catalog["users_triggers"]
        if not each["function"].startswith("usersync.")
        and each["enabled"] != "D"
        and each["type"] & INSERT
        and not each["type"] & BEFORE
    )


def _left_alone(counted: Mapping[str, Any]) -> Iterator[str]:
    if counted["orphaned"]:
        yield f"{_rows(counted['orphaned'])} whose user the auth server does not have"
    if counted["deleted_upstream"]:
        yield f"{_rows(counted['deleted_upstream'])} whose user is soft-deleted"


def _stay(counted: Mapping[str, Any]) -> str:
    return "stays as it is" if counted["orphaned"] + counted["deleted_upstream"] == 1 else "stay as they are"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _of_first_run(
    settings: Settings, message: str, fix: str | None = None, *, decision: bool = False
) -> Finding:
    return Finding("D017", f"table {settings.users_table}", message, fix, "warning", decision=decision)
