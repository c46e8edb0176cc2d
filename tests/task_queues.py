"""Run the workers of task queues, and Redis."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

from hooks_skips import skip_without
from nats_server import free_port


@contextmanager
def running(command, folder, environment, log, python=sys.executable):
    """Run a program, ask it to end, and check that it ends without an error."""
    with log.open("wb") as output:
        program = subprocess.Popen(
            [python, "-m", *command],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield program
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0, log.read_text()
    finally:
        program.kill()
        program.wait()


def wait_until(condition, program, log):
    deadline = time.monotonic() + 90
    while not condition():
        assert program.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@contextmanager
def redis(directory):
    program = shutil.which("redis-server") or skip_without("Redis")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with (directory / "redis.log").open("wb") as output:
        server = subprocess.Popen([program, *options], stdout=output)
    try:
        wait_until(lambda: _answers(port), server, directory / "redis.log")
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
