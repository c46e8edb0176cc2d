"""The output of ``usersync subscriptions``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.audit.event_view import moment
from usersync.cli.text import (
    bad,
    bold,
    clip,
    columns,
    count,
    faint,
    good,
    number,
    plain,
    table,
    typed,
    warning,
    wrap,
)
from usersync.events.models import TABLE as TABLE  # noqa: PLC0414 - for the commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.events.models import DeliveryAttempt, ParkedEvent, SubscriptionStatus


@dataclass(frozen=True)
class SubscriptionsView:
    """Each subscription in one line, and the ``parked`` events. ``done`` is what was changed."""

    subscriptions: tuple[SubscriptionStatus, ...]
    target: str
    done: str = ""
    parked: tuple[ParkedEvent, ...] = ()
    #: The newest attempts, the newest first.
    attempts: tuple[DeliveryAttempt, ...] = ()
    #: Whether the exit code reports a problem.
    judges: bool = False

    @property
    def exit_code(self) -> int:
        return int(self.judges and any(each.has_problem for each in self.subscriptions))

    def lines(self, width: int) -> Iterator[str]:
        if not self.subscriptions:
            yield f"{bold(self.target)}  {good('no subscriptions')}"
            return
        if self.done:
            yield f"{good(self.done)} {', '.join(plain(each.name) for each in self.subscriptions)}"
            return
        heads = (
            "subscription",
            "kind",
            "state",
            "lag",
            "in flight",
            "parked",
            "dead",
            "workers",
            "actions",
        )
        rows = [_row(each) for each in self.subscriptions]
        lines = list(table([tuple(map(faint, heads)), *_right(rows, heads)], width))
        if any(columns(click.unstyle(line)) > width for line in lines):
            lines = [line for row in rows for line in _row_lines(row, heads, width)]
        yield from lines
        for each in self.subscriptions:
            if url := each.config.get("url"):
                yield from wrap(
                    f"{plain(each.name)} sends {plain(each.config['format'])} to {plain(url)}", width
                )
            if each.backfilled is not None:
                yield from wrap(
                    f"{plain(each.name)}: backfill of existing users, {number(each.backfilled)} read so far",
                    width,
                )
            if each.reason:
                yield from wrap(f"{plain(each.name)} is {each.state}: {plain(each.reason)}", width)
        states = {each.name: each.state for each in self.subscriptions}
        for event in self.parked:
            yield ""
            yield from parked_lines(event, width, states.get(event.subscription, "active"))
        if self.attempts:
            yield ""
            yield from attempt_lines(self.attempts, width)
        yield from self._advice(width)

    def _advice(self, width: int) -> Iterator[str]:
        idle = [each for each in self.subscriptions if each.state == "active" and not each.workers]
        called = ", ".join(each.name for each in idle if each.kind == "handler")
        sent = ", ".join(each.name for each in idle if each.kind != "handler")
        if called:
            yield ""
            yield from wrap(f"No worker runs for {plain(called)}. Start one:", width)
            yield f"  {typed('usersync worker MODULE:NAME')}"
        if sent:
            yield ""
            yield from wrap(
                f"No worker serves {plain(sent)}. If a worker runs, its log says which extra or key it "
                "lacks. Start one:",
                width,
            )
            yield f"  {typed('usersync worker')}"
        if any(each.dead for each in self.subscriptions):
            yield ""
            yield f"See the dead events:  {typed('usersync subscriptions dead')}"

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "subscriptions": [asdict(each) for each in self.subscriptions],
            "parked": [asdict(each) for each in self.parked],
            "attempts": [asdict(each) for each in self.attempts],
        }


#: The columns of numbers.
_NUMBERS = slice(3, 8)


def _right(rows: Sequence[tuple[str, ...]], heads: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows with their numbers on the right."""
    cells = [*zip(*rows, strict=True)]
    for index in range(*_NUMBERS.indices(len(heads))):
        widest = max(len(click.unstyle(text)) for text in (heads[index], *cells[index]))
        cells[index] = tuple(" " * (widest - len(click.unstyle(text))) + text for text in cells[index])
    return [*zip(*cells, strict=True)]


def _row_lines(row: tuple[str, ...], heads: Sequence[str], width: int) -> Iterator[str]:
    """A subscription in lines below each other, for a narrow terminal."""
    yield "  ".join(row[: _NUMBERS.start])
    numbers = zip(heads[_NUMBERS], map(click.unstyle, row[_NUMBERS]), strict=True)
    yield from wrap(", ".join(f"{head} {text}" for head, text in numbers), width, first="  ")
    yield from wrap(row[-1], width, first="  ", breaks_words=True)


def _row(each: SubscriptionStatus) -> tuple[str, ...]:
    state = each.state if each.state == "active" else warning(each.state)
    dead = number(each.dead)
    filters = [f"{name}={value}" for name, value in each.wanted.items()]
    return (
        bold(plain(each.name)),
        plain(each.kind),
        state,
        number(each.lag),
        "?" if each.in_flight is None else number(each.in_flight),
        number(each.parked),
        bad(dead) if each.dead else dead,
        str(each.workers),
        plain(" ".join([*each.actions, *filters])),
    )


@dataclass(frozen=True)
class ParkedView:
    """Parked events."""

    events: tuple[ParkedEvent, ...]
    target: str
    what: str

    @property
    def exit_code(self) -> int:
        return 1 if self.events else 0

    def lines(self, width: int) -> Iterator[str]:
        if not self.events:
            yield f"{bold(self.target)}  {good(f'no {self.what} events')}"
            return
        yield f"{bold(self.target)}  {bad(count(len(self.events), f'{self.what} event'))}"
        for each in self.events:
            yield ""
            yield from parked_lines(each, width)
        yield ""
        yield from wrap("Fix the cause, then retry them:", width)
        yield f"  {typed('usersync subscriptions retry NAME')}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "events": [asdict(each) for each in self.events]}


@dataclass(frozen=True)
class AttemptsView:
    """The attempts of a subscription."""

    attempts: tuple[DeliveryAttempt, ...]
    name: str
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{bold(self.target)}  {plain(self.name)}"
        if not self.attempts:
            yield "No attempts."
        else:
            yield from attempt_lines(self.attempts, width)

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "subscription": self.name,
            "attempts": [asdict(each) for each in self.attempts],
        }


def attempt_lines(attempts: Sequence[DeliveryAttempt], width: int) -> Iterator[str]:
    """Each attempt in a line, and its error below."""
    for each in attempts:
        result = bad("failed") if each.error else good(clip(each.answer or "succeeded", width - 40))
        took = f"{each.seconds:.3f} s" if each.seconds is not None else "not ended"
        yield f"{moment(each.attempted_at)}  {took}  {result}"
        event = f"{each.number} {each.event_id}" if each.number > 0 else f"{each.event_id} of the backfill"
        yield faint(f"  event {event} · attempt {each.attempt}")
        if each.error:
            yield from wrap(plain(each.error), width, first="  ", breaks_words=True)


def parked_lines(event: ParkedEvent, width: int, subscription_state: str = "active") -> Iterator[str]:
    """A parked event for people: subscription, number, entity, state, error, attempts."""
    entity = f"{event.entity_type}/{event.entity_id}" if event.entity_id else "no entity"
    state = bad(event.state) if event.state == "dead" else warning(event.state)
    place = event.number if event.number > 0 else "backfill"
    head = f"{bold(plain(event.subscription))}  {place}"
    line = f"{head}  {plain(entity)}  {state}"
    if columns(click.unstyle(line)) <= width:
        yield line
    else:
        yield f"{head}  {state}"
        yield from wrap(plain(entity), width, first="  ", breaks_words=True)
    if event.error:
        yield from wrap(plain(event.error), width, first="  ", breaks_words=True)
    facts = [
        f"event {event.event_id}",
        count(event.attempts, "attempt") if event.attempts else "waits for an earlier event of its entity",
        f"last {moment(event.last_tried_at)}" if event.last_tried_at else "",
        _next_try(event, subscription_state),
    ]
    for line in wrap(" · ".join(filter(None, facts)), width, first="  "):
        yield faint(line)


def _next_try(event: ParkedEvent, subscription_state: str) -> str:
    if event.next_try_at is None:
        return ""
    if subscription_state != "active":
        return f"no attempt while the subscription is {subscription_state}"
    return f"next {moment(event.next_try_at)}"
