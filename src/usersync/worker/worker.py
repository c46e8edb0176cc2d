"""``usersync worker``: threads for leases, numbers, periodic tasks, and one for each subscription."""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from usersync.audit.feed import number_events
from usersync.audit.noting import has_started
from usersync.audit.reading import installed_settings
from usersync.config.dsn import database_address
from usersync.config.settings import Settings
from usersync.core.audit_log import has_log
from usersync.errors import NotInstalledError, SettingsError, UsersyncError
from usersync.events import leases
from usersync.events.definitions import definition, definitions
from usersync.events.handlers import reference_of
from usersync.events.homes import Homes, check_homes
from usersync.events.subscriptions import HANDLER, STREAM, WEBHOOK, subscriptions
from usersync.transports.jetstream.address import ingest_address
from usersync.transports.psycopg import connect, transport_for
from usersync.transports.run import run
from usersync.worker import backoff as usual
from usersync.worker import periodic
from usersync.worker.attempts import describe
from usersync.worker.clock import now
from usersync.worker.ingest_monitor import IngestMonitor
from usersync.worker.kinds import available_kinds, no_kind, problem_of
from usersync.worker.runner import Runner, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from usersync.events.handlers import Handlers
    from usersync.events.models import Subscription
    from usersync.transports.psycopg import Transport
    from usersync.transports.steps import Steps
    from usersync.worker.backoff import Backoff
    from usersync.worker.kinds import DeliveryFactory

logger = logging.getLogger("usersync.worker")

#: If a worker does not renew its leases for this time, another worker takes over.
LEASE_S = 15.0
#: How often the feed is read: while events come, and when none have come for a while.
FASTEST_S, SLOWEST_S = 0.05, 1.0
_SLOWER = 1.2
#: How often the leases are renewed while shards move between workers. Otherwise five times a lease.
_MOVING_S = 0.25
_PERIODIC_S = 5.0
#: After this time without an attempt to renew the leases, the thread that renews them counts as hung.
_HANGS_S = 120.0
_SPOOLS_S = 60.0
_REFUSED_S = 30.0
#: How often a worker looks whether usersync is installed again.
_ABSENT_S = 30.0
_UNSERVED = {WEBHOOK: "webhooks are not sent", STREAM: "streams are not published"}


class Worker:
    """Handles events until ``stop()``. Any number of workers may run at a time; they share the work.

    ``dsn`` is a connection string of the role that owns usersync. A connection through a transaction pooler
    works. ``ingest`` is the URL of a stream whose events are stored (``nats://…``).
    """

    def __init__(
        self,
        dsn: str,
        handlers: Handlers | None = None,
        *,
        lease: float = LEASE_S,
        backoff: Backoff = usual.backoff,
        kinds: Mapping[str, DeliveryFactory] | None = None,
        ingest: str | None = None,
    ) -> None:
        self._dsn = dsn
        self._address = database_address(dsn)
        self._handlers = {each.name: each for each in handlers or ()}
        self._reference = reference_of(handlers)
        self._kinds = available_kinds() if kinds is None else kinds
        #: Why it cannot serve the other kinds.
        self._lacks = {each: problem_of(each) for each in _UNSERVED if each not in self._kinds}
        self._lease = lease
        #: How often the leases are renewed.
        self._renewal = lease / 5
        self._id = uuid4()
        self._terms = Terms(dsn, self._id, lease, backoff)
        self._runners: dict[str, Runner] = {}
        self._stopping = threading.Event()
        self._shares_changed = threading.Event()
        self._shares = (0, 0)
        self._moving_until = float("-inf")
        self._failed: BaseException | None = None
        self._last_number = 0
        self._settings = Settings()
        self._has_log = False
        self._ingested = ingest_address(ingest) if ingest is not None else None
        #: What probes and metrics say about the stream of ``ingest``; None without it.
        self.ingest_monitor = IngestMonitor(self._ingested) if self._ingested else None
        #: Handlers whose filter is another in the database, and when that was seen.
        self._refused: dict[str, float] = {}
        #: The webhooks and streams whose home is this database, and those that are held.
        self._homes = Homes()
        self._checked: frozenset[str] = frozenset()
        self._threads: list[threading.Thread] = []
        #: When the leases were renewed, and the feed was read.
        self._renewed_at = self._read_at = float("-inf")
        #: When the last attempt to renew the leases ended, successful or not.
        self._tried_at = now()
        #: The last error of the database.
        self._problem = ""
        #: usersync was removed from the database, or replaced by another version.
        self._is_absent = False
        #: The long task that this worker is running.
        self._long_task: periodic.Task | None = None

    def check(self) -> None:
        """Raise ``SettingsError`` if the database does not know a handler, or knows another filter for it."""
        with connect(self._dsn) as connection:
            self._settings = run(installed_settings(), connection)
            self._has_log = run(has_log(self._settings), connection)
            if self._ingested is not None and not self._has_log:
                raise SettingsError(
                    "storing the events of a stream requires an audit log", hint="Run: usersync audit enable"
                )
            if self._handlers and not self._has_log:
                raise SettingsError("handlers require an audit log", hint="Run: usersync audit enable")
            stored = run(subscriptions(), connection)
        known = {each.name: definition(each) for each in stored}
        wanted = {each.name: definition(each) for each in definitions(self._handlers.values())}
        missing = sorted(set(wanted) - set(known))
        changed = sorted(name for name in wanted if name in known and wanted[name] != known[name])
        if missing or changed:
            parts = [f"not registered: {', '.join(missing)}"] if missing else []
            parts += [f"registered with other actions or filters: {', '.join(changed)}"] if changed else []
            raise SettingsError(
                f"the database does not know these handlers. {'; '.join(parts)}",
                hint=f"Register them: usersync subscriptions sync {self._reference}",
            )

    def run(self) -> None:
        """Work until ``stop()`` is called in another thread. Raises what has ended it otherwise."""
        self.start()
        while self.is_running:
            self._stopping.wait(0.1)
        self.close()

    def start(self) -> None:
        """Start the threads. Raises ``SettingsError`` like ``check()``."""
        self.check()
        tasks = {
            "leases": self._renew_leases,
            "periodic": self._run_periodic_tasks,
            "upkeep": self._run_long_tasks,
        }
        if self._has_log:
            tasks["feed"] = self._number_events
        if self._ingested is not None:
            tasks["ingest"] = self._ingest
        self._threads = [
            threading.Thread(target=self._guarded, args=(task,), name=f"usersync {name}", daemon=True)
            for name, task in tasks.items()
        ]
        for each in self._threads:
            each.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not been stopped, and nothing has ended it."""
        return not self._stopping.is_set()

    def liveness_problem(self) -> str | None:
        """Why this process should be restarted. None if it works, or is stopping."""
        if not self.is_running:
            return None
        if dead := [each.name for each in self._threads if not each.is_alive()]:
            return f"the thread {dead[0]!r} has ended"
        if now() - self._tried_at > max(_HANGS_S, 4 * self._lease):
            return f"the thread that renews the leases has hung for {now() - self._tried_at:.0f} s"
        return None

    def readiness_problem(self) -> str | None:
        """Why the worker cannot handle events now.

        None if it renews its leases, reads the feed, and reads the stream of ``ingest``.
        """
        if not self.is_running:
            return "the worker is stopping"
        at = min(self._renewed_at, self._read_at if self._has_log else self._renewed_at)
        if now() - at < self._lease:
            return self.ingest_monitor.problem() if self.ingest_monitor is not None else None
        what = "the leases could not be renewed" if at == self._renewed_at else "the feed could not be read"
        return f"{what}: {self._problem}" if self._problem else f"{what} yet"

    @property
    def held(self) -> tuple[str, ...]:
        """The names of the subscriptions that it does not serve, because they belong to another database."""
        return tuple(self._homes.held)

    def stop(self) -> None:
        """Start no more events, and end when those in progress have ended. Does not wait."""
        self._stopping.set()
        self._shares_changed.set()
        for each in list(self._runners.values()):
            each.stop()

    def close(self) -> None:
        """``stop()``, and wait. Raises what ended the worker, if it was not ``stop()``."""
        self.stop()
        for thread in self._threads:  # That of the leases waits for the runners.
            thread.join()
        with suppress(UsersyncError), connect(self._dsn) as connection:
            run(leases.leave(self._id), connection)
        if self._failed is not None:
            raise self._failed

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - close() raises it
            self._failed = error
            self.stop()

    def _renew_leases(self) -> None:
        session = transport_for(self._dsn)
        found: tuple[leases.Assignment, ...] = ()
        while self.is_running:
            began = now()
            try:
                self._note_homes(session.run(check_homes(self._address, self._checked)))
                found = session.run(
                    leases.renew_worker(
                        self._id,
                        (socket.gethostname(), os.getpid()),
                        handlers=[each for each in self._handlers if not self._is_refused(each)],
                        kinds=self._kinds,
                        lease=self._lease,
                        in_flight={
                            name: number for name, each in self._runners.items() if (number := each.in_flight)
                        },
                    )
                )
            except (UsersyncError, psycopg.Error) as error:
                self._problem = describe(error)
                logger.warning("the leases could not be renewed: %s", self._problem)
                self._is_absent = isinstance(error, NotInstalledError)
            else:
                self._is_absent = False
                self._renewed_at = began
                self._assign(found, began + self._lease)
            self._tried_at = now()
            if any(each.hangs for each in self._runners.values()):
                raise SettingsError(
                    "too many handlers hang, and their threads cannot be ended",
                    hint="Set time-outs for the calls in your handlers, and restart the process.",
                )
            if self._is_absent:
                self._stopping.wait(_ABSENT_S)
            else:
                self._wait_for_shares(found)
        # One of them may have been created after stop(). Until they have ended, their leases go on.
        self.stop()
        while any(each.thread.is_alive() for each in self._runners.values()):
            with suppress(UsersyncError, psycopg.Error):
                session.run(leases.extend(self._id, self._lease))
            for each in list(self._runners.values()):
                each.thread.join(self._renewal)
        session.close()

    def _note_homes(self, homes: Homes) -> None:
        for name, reason in homes.held.items():
            if name not in self._homes.held:
                logger.warning("%s is held: %s", name, reason)
        for name in self._homes.held:
            if name in homes.here:
                logger.info("%s is no longer held: this database is its home", name)
        for kind, problem in self._lacks.items():
            # Also one that was added after the worker had started.
            names = [name for name in homes.kinds.keys() - self._homes.kinds if homes.kinds[name] == kind]
            if names:
                logger.warning("%s (%s): %s", _UNSERVED[kind], ", ".join(sorted(names)), problem)
        self._homes = homes
        self._checked = homes.here | homes.held.keys()

    def _rest(self, seconds: float) -> None:
        """Wait, and longer while usersync is not in the database: until the leases are renewed again."""
        self._stopping.wait(seconds)
        while self._is_absent and self.is_running:
            self._stopping.wait(seconds)

    def _wait_for_shares(self, found: tuple[leases.Assignment, ...]) -> None:
        """Wait until the leases must be renewed: shorter if another worker starts or ends."""
        usual = self._renewal
        self._stopping.wait(min(_MOVING_S, usual))
        lacks = any(len(each.shards) < each.fair for each in found)
        if usual > _MOVING_S and not (lacks and now() < self._moving_until):
            self._shares_changed.wait(usual - _MOVING_S)
        self._shares_changed.clear()

    def _note_shares(self, shares: tuple[int, int]) -> None:
        if shares != self._shares:
            self._shares, self._moving_until = shares, now() + self._renewal
            self._shares_changed.set()

    def _assign(self, assignments: tuple[leases.Assignment, ...], deadline: float) -> None:
        served = {each.subscription.name: each for each in assignments if self._is_served(each.subscription)}
        for name, assignment in served.items():
            if name not in self._runners:
                self._runners[name] = self._new_runner(assignment.subscription)
                self._runners[name].thread.start()
            self._runners[name].assign(assignment, deadline)
        for name, runner in self._runners.items():
            if name not in served:
                runner.retire()

    def _is_served(self, subscription: Subscription) -> bool:
        """Whether the code is for this filter, and a webhook or stream belongs to this database.

        A newer release of the application may have changed the filter.
        """
        if subscription.kind != HANDLER:
            return subscription.name in self._homes.here
        handler = self._handlers.get(subscription.name)
        if handler is None or definition(subscription) == definition(*definitions([handler])):
            self._refused.pop(subscription.name, None)
            return True
        if subscription.name not in self._refused:
            logger.error("%s: the database has another filter than this code; not served", subscription.name)
        self._refused[subscription.name] = now()
        return False

    def _is_refused(self, name: str) -> bool:
        """Whether its leases are left to other workers. It is looked at again after a while."""
        return now() - self._refused.get(name, float("-inf")) < _REFUSED_S

    def _new_runner(self, subscription: Subscription) -> Runner:
        handler = self._handlers.get(subscription.name) if subscription.kind == HANDLER else None
        kind = self._kinds.get(subscription.kind, no_kind)
        runner = Runner(subscription, self._terms, handler=handler, kind=kind)
        runner.tell(self._last_number)
        return runner

    def _ingest(self) -> None:
        from usersync.worker.ingest import Ingest  # noqa: PLC0415 - needs an extra

        if self._ingested is not None and self.ingest_monitor is not None:
            Ingest(self._dsn, self._ingested, self._stopping, self.ingest_monitor).run()

    def _number_events(self) -> None:
        session = transport_for(self._dsn)
        wait = FASTEST_S
        while self.is_running:
            began = now()
            try:
                if session.run(has_started(self._settings)):
                    session.run(number_events())
                state = session.run(leases.feed_state())
            except (UsersyncError, psycopg.Error) as error:
                self._problem = describe(error)
                logger.warning("the feed could not be read: %s", self._problem)
                wait = SLOWEST_S
            else:
                last = state.last_number
                wait = FASTEST_S if last != self._last_number else min(wait * _SLOWER, SLOWEST_S)
                self._last_number, self._read_at = last, now()
                self._note_shares(state.shares)
                for each in list(self._runners.values()):
                    each.tell(last)
            # From one look to the next. A look that takes long must not be followed by the next one at once.
            self._rest(max(began + wait - now(), wait / 2))
        session.close()

    def _run_periodic_tasks(self) -> None:
        session = transport_for(self._dsn)
        spools_at = now()
        while self.is_running:
            for task in (periodic.RETRY, *(periodic.OF_LOG if self._has_log else ())):
                self._run_task(session, task, task.operation)
            if (long := self._long_task) is not None:
                with suppress(UsersyncError, psycopg.Error):
                    session.run(periodic.claim(long))
            if self._has_log and now() >= spools_at:
                spools_at = now() + _SPOOLS_S
                try:
                    periodic.deliver_spools(self._dsn)
                except (UsersyncError, OSError) as error:
                    logger.warning("spooled events could not be delivered: %s", describe(error))
            self._rest(_PERIODIC_S)
        session.close()

    def _run_long_tasks(self) -> None:
        """Run the long tasks, in a thread of their own so that other tasks need not wait for them."""
        session = transport_for(self._dsn)
        while self.is_running:
            of_log = periodic.RETENTION if self._settings.audit.is_own else periodic.FEED
            for task in (periodic.COMPARISON, *((of_log,) if self._has_log else ())):
                self._run_task(session, task, partial(task.operation, self._stopping.is_set))
            self._rest(_PERIODIC_S)
        session.close()

    def _run_task(self, session: Transport, task: periodic.Task, operation: Callable[[], Steps[Any]]) -> None:
        error = None
        try:
            if not self.is_running or not session.run(periodic.is_due(task)):
                return
            self._long_task = task if task.is_long else self._long_task
            session.run(operation())
        except periodic.StoppedError:
            with suppress(UsersyncError, psycopg.Error):
                session.run(periodic.release(task))
            return
        except (UsersyncError, psycopg.Error) as raised:
            error = describe(raised)
            logger.warning("the periodic task %r failed: %s", task.name, error)
        finally:
            self._long_task = None if task.is_long else self._long_task
        with suppress(UsersyncError, psycopg.Error):
            session.run(periodic.store_result(task, error))
