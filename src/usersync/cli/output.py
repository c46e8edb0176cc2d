"""The only place that prints.

A command returns a ``View``, which knows itself as lines for people and as data for programs; here
is decided which of them is shown, where it goes, and whether it has colours. Results go to standard output,
everything about how it is going (errors for people, warnings, questions, progress) to standard error.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import stat
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from uuid import UUID

import click

from usersync.cli.text import bad, faint, inert, plain, warning, wrap
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

    from usersync.errors import UsersyncError

DEFAULT_WIDTH = 80
#: The code of an error that is none of those on purpose.
UNFORESEEN = "US000"
_MIN_WIDTH, _MAX_WIDTH = 40, 120
_MAX_MESSAGE = 2_000


class View(Protocol):
    """A result that can be shown. ``exit_code`` is 0 if all is well, 1 if a problem was found."""

    @property
    def exit_code(self) -> int: ...

    def lines(self, width: int) -> Iterable[str]:
        """For people. Colours may be in it; lines are wrapped to ``width``."""

    def data(self) -> dict[str, Any]:
        """For programs: keys that stay, values that ``to_json()`` takes."""


class Output:
    """Standard output and standard error of one call of the command."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a letter shows its number; nobody gets an error for it.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    @property
    def width(self) -> int:
        """How wide a line may be: the terminal's width within reason, 80 where there is none."""
        columns = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
        return max(_MIN_WIDTH, min(columns, _MAX_WIDTH))

    def show(self, view: View) -> None:
        """Print a result: as lines, or with ``--json`` as one document."""
        if self.as_json:
            self.document(view.data())
        else:
            self.say(*view.lines(self.width))

    def document(self, data: dict[str, Any], *, compact: bool = False) -> None:
        """Print data as one JSON document."""
        ascii_only = "utf" not in (getattr(sys.stdout, "encoding", None) or "")
        indent = None if compact else 2
        click.echo(inert(json.dumps(data, default=to_json, indent=indent, ensure_ascii=ascii_only)))

    def say(self, *lines: str) -> None:
        """Print lines for people to standard output; nothing with ``--json``."""
        if not self.as_json:
            for line in lines:
                click.echo(line, color=colour())

    def raw(self, text: str) -> None:
        """Print text as it is, whatever the options say: a script that was asked for."""
        click.echo(text, nl=not text.endswith("\n"))

    @contextmanager
    def sink(self, path: Path | None, *, mode: int = 0o600) -> Iterator[BinaryIO]:
        """Yield where bytes go: standard output, or a file that takes its name when all of it is there.

        A new file is for its owner only, unless ``mode`` says otherwise. Whatever is no file, such as a
        pipe, is written to as it is.
        """
        if path is None:
            # Python has no standard output where the shell closed it (``>&-``).
            if sys.stdout is None:
                raise SettingsError("cannot write: standard output is closed", hint="Add --output FILE.")
            yield sys.stdout.buffer
            return
        try:
            target = path.resolve()
            if target.exists() and not target.is_file():
                with target.open("wb") as device:
                    yield device
                return
            with _draft_of(target, mode) as file:
                yield file
        except OSError as error:
            raise SettingsError(f"cannot write {path}: {error.strerror}") from error

    def wait(self, seconds: float) -> None:
        """Sleep; raise BrokenPipeError as soon as nobody reads standard output any more."""
        try:
            waiting = select.poll()
            waiting.register(sys.stdout.fileno(), 0)
        except (OSError, ValueError, AttributeError):
            time.sleep(seconds)
            return
        if waiting.poll(seconds * 1000):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def tell(self, *lines: str) -> None:
        """Print lines for people to standard error; nothing with ``--json``."""
        if not self.as_json:
            for line in lines:
                click.echo(line, err=True, color=colour())

    def warn(self, message: str, hint: str | None = None) -> None:
        """Say on standard error that something deserves attention."""
        self.tell(*wrap(message, self.width, first=warning("warning: ")))
        if hint:
            self.tell(*wrap(hint, self.width, first=faint("  hint: ")))

    def error(self, error: UsersyncError) -> None:
        """Say what failed, why, and what to do; with ``--json`` as a document on standard output."""
        if self.as_json:
            self.document({"error": describe_error(error)})
        else:
            self.tell(*error_lines(error, self.width))
        if self.verbose:
            trace = "".join(traceback.format_exception(error)).rstrip()
            click.echo(trace, err=True)

    @contextmanager
    def screen(self) -> Iterator[Callable[[View], None]]:
        """Yield what shows one view after the other: in place on a terminal, else below each other."""
        if self.as_json:
            yield lambda view: self.document(view.data(), compact=True)
        elif on_terminal():
            with self._live() as draw:
                yield draw
        else:
            yield lambda view: self.say(*view.lines(self.width), "")

    @contextmanager
    def _live(self) -> Iterator[Callable[[View], None]]:
        from rich.live import Live  # noqa: PLC0415 - late, because it takes its time
        from rich.text import Text  # noqa: PLC0415 - likewise

        with Live(console=self.console(), auto_refresh=False) as live:
            yield lambda view: live.update(Text.from_ansi("\n".join(view.lines(self.width))), refresh=True)

    def console(self, *, err: bool = False) -> Console:
        """What draws on the terminal."""
        from rich.console import Console  # noqa: PLC0415 - late, because it takes its time

        return Console(stderr=err, highlight=False, markup=False, no_color=colour() is False)

    def choose(self, question: str, count: int) -> int | None:
        """Ask on the terminal for a number from 1, which is the default; end of input counts as None."""
        try:
            found = click.prompt(question, default=1, type=click.IntRange(1, count), err=True)
        except click.Abort as abort:
            self.tell("")
            if isinstance(abort.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            return None
        return int(found)

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; end of input counts as no."""
        try:
            return click.confirm(question, default=False, err=True)
        except click.Abort as abort:
            self.tell("")
            if isinstance(abort.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            return False


def error_lines(error: UsersyncError, width: int) -> Iterable[str]:
    """An error for people. The first line is never wrapped, so that it can be searched for."""
    yield f"{bad('usersync: error')} {error.code}: {shortened(plain(error))}"
    if error.hint:
        yield from wrap(plain(error.hint), width, first=faint("  hint: "))
    if more := more_on(error):
        yield faint(f"  more: {more}")


def describe_error(error: UsersyncError) -> dict[str, Any]:
    """An error for programs."""
    described = {
        "code": error.code,
        "message": shortened(str(error)),
        "hint": error.hint,
        "more": more_on(error),
    }
    sqlstate = getattr(error, "sqlstate", None)
    return described | ({"sqlstate": sqlstate} if sqlstate else {})


def more_on(error: UsersyncError) -> str | None:
    """The command that explains an error; there is nothing to say of one that nobody foresaw."""
    return None if error.code == UNFORESEEN else f"usersync explain {error.code}"


def shortened(text: str) -> str:
    """Cut out the middle of a message that somebody's argument made endless."""
    if len(text) <= _MAX_MESSAGE:
        return text
    half = _MAX_MESSAGE // 2
    return f"{text[:half]} […] {text[-half:]}"


def colour() -> bool | None:
    """Whether colours are wanted (True, False), or None: on a terminal only."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def on_terminal(*, err: bool = False) -> bool:
    """Whether standard output (or error) is a terminal that can redraw."""
    stream = sys.stderr if err else sys.stdout
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def _draft_of(path: Path, mode: int) -> Iterator[BinaryIO]:
    if path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _unnamed(path.parent, mode) or _named(draft, mode) as file:
            yield file
            file.flush()
            if not draft.exists():
                _name(file, draft)
        draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _unnamed(directory: Path, mode: int) -> BinaryIO | None:
    """A file without a name, of which nothing is left if the process is killed; None where there are none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - no path of ours
        return None
    try:
        return os.fdopen(os.open(directory, os.O_WRONLY | flag, mode), "wb")
    except OSError:
        return None


def _name(file: BinaryIO, path: Path) -> None:
    """Give an unnamed file its name (open(2), O_TMPFILE)."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        # With a directory's descriptor Python calls linkat(2), which follows the link to the file.
        os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=directory)
    finally:
        os.close(directory)


def _named(path: Path, mode: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty() and on_terminal(err=True)


def to_json(value: object) -> Any:
    """What ``json`` does not know: times in ISO 8601, ids as text, dataclasses as objects."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
