"""The progress of a run on standard error: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usersync.cli.output import on_terminal
from usersync.cli.text import duration, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.cli.output import Output
    from usersync.core.reconcile import OnProgress, Progress

_EVERY_S = 5.0


@contextmanager
def progress(output: Output) -> Iterator[OnProgress]:
    """Yield a function to call after each page, from any thread."""
    if output.as_json:
        yield lambda _: None
    elif on_terminal(err=True):
        with _bar(output) as on_progress:
            yield on_progress
    else:
        yield PlainProgress(output.tell)


class PlainProgress:
    """Prints every few seconds the number of users done, the rate and the time left."""

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        every: float = _EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._every = every
        self._clock = clock
        self._began = self._told = clock()
        self._before: int | None = None

    def __call__(self, progress: Progress) -> None:
        now, done = self._clock(), progress.counts.examined
        if self._before is None:
            # A resumed run starts with the users of the earlier run, which do not count for the rate.
            self._before, self._began = done, now
        if now - self._told >= self._every:
            self._told = now
            self._tell(self._line(done, progress.total, now - self._began))

    def _line(self, done: int, total: int, seconds: float) -> str:
        rate = (done - (self._before or 0)) / seconds if seconds else 0.0
        parts = [f"{number(done)} of {number(max(total, done))} users"]
        if total:
            parts[0] += f" ({min(done / total, 1):.0%})"
        if rate:
            parts += [f"{number(rate)}/s", f"{duration(max(total - done, 0) / rate)} left"]
        return ", ".join(parts)


@contextmanager
def _bar(output: Output) -> Iterator[OnProgress]:
    from rich import progress as rich  # noqa: PLC0415 - here, because the import is slow

    columns = (
        rich.BarColumn(bar_width=24),
        rich.TextColumn("{task.fields[done]}"),
        rich.TextColumn("{task.fields[rate]}", style="dim"),
        rich.TimeRemainingColumn(compact=True),
    )
    with rich.Progress(*columns, console=output.console(err=True), transient=True) as bar:
        task = bar.add_task("", total=None, done="", rate="")

        def on_progress(progress: Progress) -> None:
            done = progress.counts.examined
            total = max(progress.total, done)
            speed = bar.tasks[0].speed
            bar.update(
                task,
                completed=done,
                total=total,
                done=f"{number(done)}/{number(total)} users",
                rate=f"{number(speed)}/s" if speed else "",
            )

        yield on_progress
