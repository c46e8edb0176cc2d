"""The options that choose events, which ``tail``, ``search`` and ``export`` share."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.periods import as_moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.audit.models import EventFilter

OUTCOMES = ("succeeded", "failed", "denied")

_NAMES = ("user_id", "actor_id", "entity", "action", "outcome", "since", "until", "text", "request_id")

_DURATION_OR_DATE = "a duration before now (2h, 3d) or a date (2026-03-31T18:30)"


def parse_entity(text: str) -> tuple[str, str | None]:
    """``product/42`` as type and id; ``product`` alone is every product. Raises ValueError."""
    kind, slash, key = text.partition("/")
    if not kind or (slash and not key):
        raise ValueError(f"{text!r} is no entity; expected a type, or a type and an id, as in product/42")
    return kind, _as_tracked(key) if key else None


def _as_tracked(key: str) -> str:
    """A key of several columns as row tracking writes it, however it was spaced."""
    if not key.startswith("["):
        return key
    try:
        return json.dumps(json.loads(key), ensure_ascii=False)
    except (ValueError, RecursionError):
        return key


def as_entity(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, str | None] | None:
    """The callback of an option that takes an entity."""
    try:
        return parse_entity(value) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def as_action(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that takes an action; a star stands at the end or nowhere."""
    if value is not None and not re.fullmatch(r"[^*]+\*?|\*", value):
        raise click.BadParameter(f"{value!r}: a star stands at the end, as in 'product.*'")
    return value


_OPTIONS = (
    click.option("--user", "user_id", type=click.UUID, metavar="ID", help="Linked to this user."),
    click.option("--actor", "actor_id", metavar="ID", help="Done by this actor, whoever that is."),
    click.option(
        "--entity", callback=as_entity, metavar="TYPE[/ID]", help="Done to this: product/42, or product."
    ),
    click.option(
        "--action", callback=as_action, metavar="ACTION", help="This action; 'product.*' is all of them."
    ),
    click.option(
        "--outcome", type=click.Choice(OUTCOMES), metavar="OUTCOME", help="succeeded, failed or denied."
    ),
    click.option("--since", callback=as_moment, metavar="TIME", help=f"From {_DURATION_OR_DATE} on."),
    click.option("--until", callback=as_moment, metavar="TIME", help="Before that; written likewise."),
    click.option(
        "--text",
        metavar="WORDS",
        help="With each of these words, or pieces of words, in a value of metadata or changes.",
    ),
    click.option("--request", "request_id", metavar="ID", help="Of this request."),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and ``wanted: EventFilter`` for what they say."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        return command(*arguments, wanted=_filter(given), **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _filter(given: dict[str, Any]) -> EventFilter:
    from usersync.audit.models import EventFilter  # noqa: PLC0415 - only when it is wanted

    if given["since"] and given["until"] and given["since"] >= given["until"]:
        raise click.UsageError("--since is not before --until, so that nothing can be found")
    kind, key = given.pop("entity") or (None, None)
    return EventFilter(entity_type=kind, entity_id=key, **given)
