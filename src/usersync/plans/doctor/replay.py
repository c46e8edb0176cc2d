"""What became of the auth server's requests when they were tried on a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usersync.schema.trial.observation import Fault, MovedSequence

if TYPE_CHECKING:
    from usersync.models import Finding
    from usersync.plans.doctor.context import Verdict

__all__ = ["Attempt", "Fault", "MovedSequence", "Replay", "State"]

State = Literal["ok", "refused", "failed", "degraded", "differs", "skipped", "late"]


@dataclass(frozen=True)
class Attempt:
    """One request, and what it left.

    ``refused`` is the auth server's failure. ``failed`` and ``degraded`` are the ledger's words: no row, or
    less than the whole row; ``differs`` is a row that is not what the mapping says, with nothing raised.
    ``skipped`` comes after one that was refused; for ``late`` ones there was no time.
    """

    step: str
    state: State
    fault: Fault | None = None


@dataclass(frozen=True)
class Replay:
    """Every request of the auth server's, tried in one transaction that was rolled back."""

    attempts: tuple[Attempt, ...] = ()
    #: Who owns the auth server's table, and so makes its requests.
    auth_role: str = ""
    #: Who made them here.
    tried_as: str = ""
    seconds: float = 0.0
    #: What the auth server's role may not do, and a trigger does in its name.
    lacking: tuple[Finding, ...] = ()
    moved: tuple[MovedSequence, ...] = ()
    #: Triggers that do what no rollback takes back, with what they do.
    calling_out: tuple[str, ...] = ()
    #: Why nothing was tried, and what to do.
    obstacle: Finding | None = None
    #: What came of recording an event, or why none was recorded.
    event: Verdict | str | None = None

    @property
    def was_assumed(self) -> bool:
        """Whether the requests were made as the auth server makes them."""
        return self.tried_as == self.auth_role
