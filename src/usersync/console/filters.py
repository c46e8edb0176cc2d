"""The filters of a search for events, as fields of a form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from usersync.audit.event.entity import parse_entity
from usersync.audit.models import OUTCOMES, EventFilter
from usersync.config.audit_rules import SEVERITIES
from usersync.config.periods import parse_moment
from usersync.console.addresses import asked
from usersync.errors import ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request


@dataclass(frozen=True)
class Filter:
    """A field of the form of a search: its parameter, its label, its option of the command."""

    name: str
    label: str
    option: str
    choices: tuple[str, ...] = ()


FILTERS = (
    Filter("action", "Action (product.* is a prefix)", "--action"),
    Filter("actor_id", "Actor", "--actor"),
    Filter("user_id", "User id", "--user"),
    Filter("entity", "Entity (product or product/42)", "--entity"),
    Filter("outcome", "Outcome", "--outcome", OUTCOMES),
    Filter("severity", "Severity", "--severity", tuple(SEVERITIES)),
    Filter("since", "Since (2h, 3d or 2026-03-31T18:30, UTC)", "--since"),
    Filter("until", "Until (in the same form)", "--until"),
    Filter("request_id", "Request", "--request"),
    Filter("tenant_id", "Tenant", "--tenant"),
    Filter("on_behalf_of", "On behalf of", "--on-behalf-of"),
    Filter("text", "Words in metadata and changes", "--text"),
)


def given_filters(request: Request, filters: Iterable[Filter] = FILTERS) -> dict[str, str]:
    """The filters that have a value."""
    given = {each.name: asked(request, each.name) for each in filters}
    return {name: value for name, value in given.items() if value}


def options_of(given: Mapping[str, str]) -> list[str]:
    """The same filters as options of ``usersync audit search``."""
    return [word for each in FILTERS if each.name in given for word in (each.option, given[each.name])]


def filter_of(given: Mapping[str, str], **more: str) -> EventFilter:
    """The filter for a search. ``more`` are fields that the form does not decide. Raises
    ``ArgumentValueError``.
    """
    wanted: dict[str, Any] = dict(given)
    if entity := wanted.pop("entity", None):
        wanted["entity_type"], wanted["entity_id"] = entity_of(entity)
    for name in {"since", "until"} & wanted.keys():
        wanted[name] = moment_of(name, wanted[name])
    return EventFilter(**(wanted | more))


def moment_of(name: str, text: str) -> datetime:
    """A duration before now, or a date. Raises ``ArgumentValueError`` with the name of the field."""
    try:
        return parse_moment(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise ArgumentValueError(f"{name}: {error}") from None


def is_number(text: str) -> bool:
    """Whether a text is a number of the database, zero or more."""
    return text.isascii() and text.isdigit() and len(text) <= 18  # noqa: PLR2004 - a bigint


def number_of(name: str, text: str) -> int:
    """A number of the database. Raises ``ArgumentValueError`` with the name of the field."""
    if not is_number(text):
        raise ArgumentValueError(f"{name}: expected a number, got {text!r:.80}")
    return int(text)


def entity_of(text: str) -> tuple[str, str | None]:
    """Type and id of ``product/42``; without an id, None. Raises ``ArgumentValueError``."""
    try:
        return parse_entity(text)
    except ValueError as error:
        raise ArgumentValueError(str(error)) from None


def complete_entity_of(text: str) -> tuple[str, str]:
    """Type and id of ``product/42``. Raises ``ArgumentValueError``."""
    kind, key = entity_of(text)
    if key is None:
        raise ArgumentValueError(
            f"the entity {text!r:.80} has no id", hint="Write type and id, for example product/42."
        )
    return kind, key
