"""The only module that prints.

A command returns a ``View`` with lines for people and data for programs. This module prints one of them,
with or without colours. Results go to standard output. Errors, warnings, questions and progress go to
standard error; with ``--json``, errors go to standard output too.
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

from usersync.cli.text import bad, faint, plain, warning, wrap
from usersync.control_characters import inert
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

    from usersync.errors import UsersyncError

DEFAULT_WIDTH = 80
#: The code of an unexpected error.
UNEXPECTED = "US000"
_MIN_WIDTH, _MAX_WIDTH = 40, 120
_MAX_MESSAGE = 2_000


class View(Protocol):
    """A result to print. ``exit_code`` is 0 without problems, 1 if a problem was found."""

    @property
    def exit_code(self) -> int: ...

    def lines(self, width: int) -> Iterable[str]:
        """Lines for people, wrapped to ``width``. They may contain colours."""

    def data(self) -> dict[str, Any]:
        """Data for programs: stable keys, values that ``to_json()`` accepts."""


class Output:
    """Standard output and standard error of one call of the command."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        for stream in (sys.stdout, sys.stderr):
            # A character that the terminal's encoding lacks is printed as its number, without an error.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    @property
    def width(self) -> int:
        """The terminal's width, limited to 40 to 120. Without a terminal, 80."""
        columns = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
        return max(_MIN_WIDTH, min(columns, _MAX_WIDTH))

    def show(self, view: View) -> None:
        """Print a result as lines, or with ``--json`` as one document."""
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
        """Print text unchanged, even with ``--json``: a script that the user asked for."""
        click.echo(text, nl=not text.endswith("\n"))

    @contextmanager
    def sink(self, path: Path | None, *, mode: int = 0o600) -> Iterator[BinaryIO]:
        """Yield a stream: standard output, or a file that gets its name when it is complete.

        A new file is readable by its owner only, unless ``mode`` is given. A path that is not a regular file,
        such as a pipe, is written directly.
        """
        if path is None:
            # Python sets sys.stdout to None if the shell closed it (``>&-``).
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
        """Sleep. Raise BrokenPipeError as soon as the reader of standard output is gone."""
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

    def log(self, line: str) -> None:
        """Print a line of a log to standard error, with ``--json`` too."""
        click.echo(plain(line), err=True)

    def warn(self, message: str, hint: str | None = None) -> None:
        """Print a warning to standard error."""
        self.tell(*wrap(message, self.width, first=warning("warning: ")))
        if hint:
            self.tell(*wrap(hint, self.width, first=faint("  hint: ")))

    def error(self, error: UsersyncError) -> None:
        """Print what failed, why, and what to do. With ``--json``, print a document to standard output."""
        if self.as_json:
            self.document({"error": describe_error(error)})
        else:
            self.tell(*error_lines(error, self.width, wraps=on_terminal(err=True)))
        if self.verbose:
            trace = "".join(traceback.format_exception(error)).rstrip()
            click.echo(trace, err=True)

    @contextmanager
    def screen(self) -> Iterator[Callable[[View], None]]:
        """Yield a function that shows a view: on a terminal in place of the last one, else below it."""
        if self.as_json:
            yield lambda view: self.document(view.data(), compact=True)
        elif on_terminal():
            with self._live() as draw:
                yield draw
        else:
            yield lambda view: self.say(*view.lines(self.width), "")

    @contextmanager
    def _live(self) -> Iterator[Callable[[View], None]]:
        from rich.live import Live  # noqa: PLC0415 - here, because the import is slow
        from rich.text import Text  # noqa: PLC0415 - only if used

        with Live(console=self.console(), auto_refresh=False) as live:
            yield lambda view: live.update(Text.from_ansi("\n".join(view.lines(self.width))), refresh=True)

    def console(self, *, err: bool = False) -> Console:
        """The console that draws on the terminal."""
        from rich.console import Console  # noqa: PLC0415 - here, because the import is slow

        return Console(stderr=err, highlight=False, markup=False, no_color=colour() is False)

    def choose(self, question: str, count: int) -> int | None:
        """Ask on the terminal for a number from 1 to ``count``. The default is 1; end of input gives None."""
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


def error_lines(error: UsersyncError, width: int, *, wraps: bool = False) -> Iterable[str]:
    """An error for people. In a file, its message is one line, so that users can search for it."""
    head, message = f"{bad('usersync: error')} {error.code}: ", shortened(plain(error))
    yield from wrap(message, width, first=head, rest="  ") if wraps else [f"{head}{message}"]
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
    """The command that explains an error, or None for an unexpected error."""
    return None if error.code == UNEXPECTED else f"usersync explain {error.code}"


def shortened(text: str) -> str:
    """Cut the middle out of a message that a long argument made too long."""
    if len(text) <= _MAX_MESSAGE:
        return text
    half = _MAX_MESSAGE // 2
    return f"{text[:half]} […] {text[-half:]}"


def colour() -> bool | None:
    """Whether to print colours. None means: only on a terminal."""
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
    """A file without a name, which vanishes if the process is killed. None if unsupported."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - not a path of the user
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
    """Whether the command can ask a question on the terminal."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty() and on_terminal(err=True)


def to_json(value: object) -> Any:
    """Convert what ``json`` does not support: times to ISO 8601, ids to text, dataclasses to objects."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be converted to JSON")
