"""The handlers of the benchmark of workers: ``usersync worker handled:nothing``, ``handled:waiting``."""

from __future__ import annotations

import time

from usersync import Handlers

#: How long a handler waits that calls another system.
WAIT_S = 0.002

nothing, waiting = Handlers(), Handlers()


@nothing.on("stock.adjusted", name="nothing")
def do_nothing(_):
    """Handle an event without doing anything."""


@waiting.on("stock.adjusted", name="waiting")
def wait(_):
    """Handle an event like a call of another system."""
    time.sleep(WAIT_S)
