"""The command ``usersync``: one module a subcommand; only ``output.py`` prints."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command and end the process. Ctrl-C ends it quietly at any moment, start and end included."""
    # sys.exit runs the clean-up of partial files and of the embedded server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        from usersync.cli.main import run  # noqa: PLC0415 - here, so that Ctrl-C during the import is caught

        code = run(sys.argv[1:])
        # All output is written. Ctrl-C during the interpreter's shutdown must print no traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
