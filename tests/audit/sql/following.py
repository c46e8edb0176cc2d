"""Readers that follow the feed, of usersync's own log or of the application's table."""

from __future__ import annotations

import threading
from threading import Thread

from usersync.audit import feed
from usersync.audit.models import EventFilter
from usersync.transports.run import run
from waiting import until


class Follower:
    """A reader that stores its position."""

    def __init__(self, connection, position=None, **wanted):
        self.connection, self.position, self.wanted = connection, position, EventFilter(**wanted)
        if position is None:
            self.read()

    def read(self, limit=100):
        page = run(feed.feed(self.position, self.wanted, limit), self.connection)
        self.position = page.position
        numbers = [each.number for each in page.events]
        assert numbers == sorted(set(numbers))
        return [each.action for each in page.events]

    def read_until(self, *actions):
        """Read until these events were returned, in any order. Each must come once."""
        found = []

        def is_complete():
            found.extend(self.read())
            return len(found) >= len(actions)

        until(is_complete)
        assert sorted(found) == sorted(actions)


def write(connection, writer, committed, insert):
    """Commit, or roll back, transactions with some events. ``insert`` inserts one."""
    for number in range(15):
        actions = [f"{writer}.{number}.{each}" for each in range(1 + number % 3)]
        undone = number % 5 == writer
        with connection.transaction(force_rollback=undone):
            for action in actions:
                insert(connection, action)
        if not undone:
            committed.extend(actions)


def check_many_writers_and_readers(session, insert):
    """Each reader sees every event once, in the same order, and those of a writer in the order of writing."""
    ended = threading.Event()
    committed: list[list[str]] = [[] for _ in range(4)]
    seen: list[list[str]] = [[], []]

    def read(reader, found):
        """Read until all events are seen. Another reader may still be numbering the last ones."""

        def is_complete():
            found.extend(reader.read(7))
            return ended.is_set() and len(found) >= sum(map(len, committed))

        until(is_complete)

    writers = [Thread(target=write, args=(session(), n, each, insert)) for n, each in enumerate(committed)]
    readers = [Thread(target=read, args=(Follower(session()), each)) for each in seen]
    for each in [*readers, *writers]:
        each.start()
    for each in writers:
        each.join()
    ended.set()
    for each in readers:
        each.join()
    assert seen[0] == seen[1]
    for writer, actions in enumerate(committed):
        assert [each for each in seen[0] if each.startswith(f"{writer}.")] == actions
    assert len(seen[0]) == sum(map(len, committed))
