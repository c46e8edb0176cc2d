"""The output of the command that adds a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.cli.text import bold, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.events.streams.subscription import CheckedStream


@dataclass(frozen=True)
class StreamView:
    """A new subscription that publishes to a stream, and the settings with which the stream loses events."""

    name: str
    url: str
    stream: CheckedStream
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        added, stream = f"{good('Added:')} {bold(plain(self.name))}", f"stream {plain(self.stream.name)}"
        yield f"{added}  {plain(self.url)}  {stream}"
        for each in self.stream.risks:
            yield ""
            yield from wrap(f"{warning('warning:')} {plain(each)}", width)
        yield ""
        yield f"To publish a test event:  {typed(f'usersync subscriptions test {self.name}')}"

    def data(self) -> dict[str, Any]:
        return {
            "subscription": self.name,
            "url": self.url,
            "stream": self.stream.name,
            "risks": list(self.stream.risks),
        }
