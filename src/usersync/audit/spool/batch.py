"""The batch that is being sent to a stream.

A batch that is sent again, by this process or by the one that takes over the file, must have the same events
and the same id: then the stream recognizes it. So the source keeps both until the stream has stored the
batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4


@dataclass(frozen=True)
class Batch:
    """The events after the number ``after``, up to ``through``."""

    after: int
    through: int
    id: str = field(default_factory=lambda: str(uuid4()))

    def end(self, done: int, last: int) -> int:
        """Up to which number events may be read if those up to ``done`` are delivered."""
        return min(self.through, last) if self.after == done and self.through > done else last

    def named(self, done: int, through: int) -> Batch:
        """This batch if it has these events, else a new one."""
        return self if (self.after, self.through) == (done, through) else Batch(done, through)


NO_BATCH = Batch(0, 0, "")
