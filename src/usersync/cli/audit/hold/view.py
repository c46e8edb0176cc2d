"""The output of ``usersync audit hold``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.cli.audit.event_view import moment
from usersync.cli.text import bold, faint, good, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import Hold


@dataclass(frozen=True)
class HoldsView:
    """Legal holds; ``done`` is what happened to them."""

    holds: tuple[Hold, ...]
    target: str
    done: str = ""
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a reason is never shortened
        if not self.holds:
            yield f"{bold(self.target)}  {good('no legal holds')}"
        for each in self.holds:
            done = f"{good(self.done)} " if self.done else ""
            yield f"{done}{each.hold_id}  {bold(plain(each.subject))}  {plain(each.reason)}"
            yield faint(f"    since {moment(each.created_at)}, by {plain(each.created_by)}")

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "holds": self.holds}
