"""Handlers that store a row for each event, and a process that runs them. The tests count the rows."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING

import psycopg

from usersync import Handlers
from usersync.worker.worker import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess as Process

TABLES = """
    create table public.effects (
        n bigint generated always as identity, name text, event_id uuid, entity text, number bigint);
"""
_INSERT = "insert into public.effects (name, event_id, entity, number) values (%s, %s, %s, %s)"


def effect(name, event):
    return name, event.id, event.entity_id, event.number


def new_handlers(dsn: str) -> Handlers:
    handlers = Handlers()
    own = psycopg.connect(dsn, autocommit=True) if dsn else None

    @handlers.on("a.b", transactional=True)
    def once(event, connection):
        connection.execute(_INSERT, effect("once", event))

    @handlers.on("a.b", transactional=True)
    async def once_async(event, connection):
        await connection.execute(_INSERT, effect("once_async", event))

    @handlers.on("a.b")
    def plain(event):
        own.execute(_INSERT, effect("plain", event))

    @handlers.on("deadly")
    def deadly(event):
        own.execute(_INSERT, effect("deadly", event))
        if event.metadata["n"] == 1:
            os._exit(9)

    return handlers


def start(dsn: str, *, lease: float) -> Process:
    """Start a process with a worker, and wait until the worker runs.

    It renews its leases every 0.2 s at least.
    """
    reader, writer = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(dsn, lease, writer), daemon=True)
    process.start()
    writer.close()
    reader.recv()
    reader.close()
    return process


def _work(dsn: str, lease: float, started: Connection) -> None:
    logging.disable()
    worker = Worker(dsn, new_handlers(dsn), lease=lease, backoff=lambda _: 0.05)
    worker._renewal = min(0.2, lease / 5)
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    worker.start()
    started.send("started")
    while worker.is_running and not ending:
        time.sleep(0.02)
    worker.close()


#: A process that has imported everything, and forks. Starting Python anew would take most of the test's time.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["usersync.worker.worker", "usersync.events.handlers", "psycopg"])
