"""The filter options of ``tail``, ``search`` and ``export``."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import click

from usersync.audit.models import OUTCOMES, EventFilter
from usersync.cli.audit.periods import as_moment
from usersync.config.audit_rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = (
    "user_id",
    "actor_id",
    "entity",
    "action",
    "outcome",
    "since",
    "until",
    "text",
    "request_id",
    "tenant_id",
    "on_behalf_of",
    "severity",
)

_DURATION_OR_DATE = "a duration before now (2h, 3d) or a date (2026-03-31T18:30)"


def as_entity(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, str | None] | None:
    """The callback of an option that takes an entity."""
    from usersync.audit.event.entity import parse_entity  # noqa: PLC0415 - only if used

    try:
        return parse_entity(value) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def as_action(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that takes an action. A star is allowed at the end only."""
    if value is not None and not re.fullmatch(r"[^*]+\*?|\*", value):
        raise click.BadParameter(f"{value!r}: a star is allowed at the end only, for example 'product.*'")
    return value


_OPTIONS = (
    click.option("--user", "user_id", type=click.UUID, metavar="ID", help="Events linked to this user."),
    click.option("--actor", "actor_id", metavar="ID", help="Events of this actor."),
    click.option(
        "--entity",
        callback=as_entity,
        metavar="TYPE[/ID]",
        help="Events of this entity (product/42) or type (product).",
    ),
    click.option(
        "--action",
        callback=as_action,
        metavar="ACTION",
        help="Events with this action. 'product.*' matches a prefix.",
    ),
    click.option(
        "--outcome",
        type=click.Choice(OUTCOMES),
        metavar="OUTCOME",
        help="Events with this outcome: succeeded, failed or denied.",
    ),
    click.option("--since", callback=as_moment, metavar="TIME", help=f"Events since {_DURATION_OR_DATE}."),
    click.option(
        "--until", callback=as_moment, metavar="TIME", help="Events before this time, in the same format."
    ),
    click.option(
        "--text",
        metavar="WORDS",
        help="Events with each of these words or parts of words in a value of metadata or changes.",
    ),
    click.option("--request", "request_id", metavar="ID", help="Events of this request."),
    click.option("--tenant", "tenant_id", metavar="ID", help="Events of this tenant (customer)."),
    click.option("--on-behalf-of", metavar="ID", help="Events of actors who acted as this user."),
    click.option(
        "--severity",
        type=click.Choice(SEVERITIES),
        metavar="SEVERITY",
        help="Events with this severity: info, low, medium, high or critical.",
    ),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the filter options to a command, and pass ``wanted: EventFilter``."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        return command(*arguments, wanted=_filter(given), **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _filter(given: dict[str, Any]) -> EventFilter:
    if given["since"] and given["until"] and given["since"] >= given["until"]:
        raise click.UsageError("--since must be before --until")
    kind, key = given.pop("entity") or (None, None)
    return EventFilter(entity_type=kind, entity_id=key, **given)
