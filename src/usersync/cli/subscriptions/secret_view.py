"""The output of commands that make a webhook's secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.cli.text import bold, good, plain, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.events.secret_box import Secret


@dataclass(frozen=True)
class SecretView:
    """A new secret. This is the only output that has one."""

    name: str
    url: str
    secret: Secret
    done: str
    advice: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield f"{good(self.done)} {bold(plain(self.name))}  {plain(self.url)}"
        yield ""
        yield f"secret  {self.secret.text}"
        yield ""
        yield from wrap(
            f"The secret is shown this once: store it where the receiver reads it. {self.advice}", width
        )
        yield ""
        yield f"To send a test event:  {typed(f'usersync subscriptions test {self.name}')}"

    def data(self) -> dict[str, Any]:
        return {"subscription": self.name, "url": self.url, "secret": self.secret.text}
