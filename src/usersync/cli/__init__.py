"""The command ``usersync``: one module a subcommand; only ``output.py`` prints."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command and end the process. Ctrl-C ends it quietly at any moment, start and end included."""
    # What was begun is tidied up: half a file, a server of our own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        from usersync.cli.main import run  # noqa: PLC0415 - inside, so that Ctrl-C is caught meanwhile

        code = run(sys.argv[1:])
        # All is said: whoever presses Ctrl-C now wants no traceback of the interpreter's tidying up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
