"""``usersync doctor --canary``: tries what the auth server does on a database, and takes it all back.

Every request is made in one transaction that is rolled back, each in a savepoint of its own, by the
statements that the auth server sends (``usersync.gotrue``). Works through a pooler in transaction
mode.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.canary.session import CanarySession
from usersync.canary.steps import STEPS, Bird, Step, hatch
from usersync.errors import ConnectionFailedError, UsersyncError
from usersync.gotrue import GoTrueError
from usersync.plans import canary as plans
from usersync.plans.doctor.replay import Attempt, Fault, MovedSequence, Replay
from usersync.transports.run import run, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.models import Finding
    from usersync.plans.canary import Stage
    from usersync.settings import Settings
    from usersync.transports.steps import Plan, Row

__all__ = ["replay"]

#: How long the transaction may be open, give or take a statement. A row in which a trigger counts users is
#: locked meanwhile, and other sign-ups wait for it.
MOST_SECONDS = 10.0

# A client that is gone takes its transaction with it, at the latest when it has been silent for so long.
_SHORT = """
    select set_config('statement_timeout', '3s', true), set_config('lock_timeout', '1s', true),
        set_config('idle_in_transaction_session_timeout', '5s', true),
        set_config('search_path', 'pg_catalog', true)
"""


def replay(connection: psycopg.Connection[Any], settings: Settings, *, call_out: bool = False) -> Replay:
    """Try every request, roll all of it back, and tell what became of each. Blocks.

    The connection must be in autocommit mode and in no transaction. Nothing is tried where a trigger does
    what cannot be rolled back, unless ``call_out``. Raises :class:`UsersyncError` where the connection is
    lost.
    """
    started = time.monotonic()
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(_SHORT)
            stage = run(plans.prepare(settings, call_out=call_out), connection)
            lacking = run(_looked_up(settings, stage), connection)
            found = Replay(
                (), stage.auth_role, _tried_as(stage), lacking=lacking, calling_out=stage.calling_out
            )
            if stage.obstacle is None:
                found = _tried(connection, settings, stage, found, started + MOST_SECONDS)
    except psycopg.Error as error:
        raise translate(error) from error
    return replace(found, seconds=time.monotonic() - started, obstacle=stage.obstacle)


def _tried_as(stage: Stage) -> str:
    return stage.auth_role if stage.may_assume else stage.role


def _looked_up(settings: Settings, stage: Stage) -> Plan[tuple[Finding, ...]]:
    """What cannot be tried in the auth server's name."""
    if stage.may_assume or not stage.auth_role:
        return ()
    return (yield from plans.lacking_rights(settings))


def _tried(
    connection: psycopg.Connection[Any], settings: Settings, stage: Stage, found: Replay, deadline: float
) -> Replay:
    before = run(plans.sequences(), connection)
    locks = run(plans.advisory_locks(), connection)
    with connection.transaction(force_rollback=True):
        flight = Flight(connection, settings, stage)
        attempts = tuple(flight.attempt(step, deadline) for step in STEPS)
    run(plans.release_advisory_locks(locks), connection)
    moved = tuple(_moved(connection, before))
    return replace(found, attempts=attempts, moved=moved)


def _moved(connection: psycopg.Connection[Any], before: Mapping[str, Row]) -> Iterator[MovedSequence]:
    for name, now in run(plans.sequences(), connection).items():
        if name in before and before[name]["value"] == now["value"]:
            continue
        try:
            moved = run(plans.drawn_from(before, name, now), connection)
        except ConnectionFailedError:
            raise
        except UsersyncError:
            continue  # this session drew nothing from it: somebody else did
        if moved is not None:
            yield moved


class Flight:
    """The canary's users, and what is done to them one request after the other."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings, stage: Stage) -> None:
        self._connection = connection
        self._settings = settings
        self._auth = CanarySession(connection, stage)
        self._birds: dict[str, Bird] = {}
        self._done: set[str] = set()

    def attempt(self, step: Step, deadline: float) -> Attempt:
        """Make one request, and look what it left. A failure takes back this request and no other."""
        if time.monotonic() > deadline:
            return Attempt(step.name, "late")
        bird = self._bird(step)
        if bird is None:
            return Attempt(step.name, "skipped")
        try:
            with self._connection.transaction():
                # Once more: a trigger may have set others for the rest of the transaction.
                self._connection.execute(_SHORT)
                step.act(self._auth, bird)
        except (GoTrueError, psycopg.Error) as error:
            return self._refused(step, error)
        self._birds[step.user] = bird
        self._done.add(step.name)
        return self._witnessed(step, bird)

    def _witnessed(self, step: Step, bird: Bird) -> Attempt:
        try:
            return run(plans.witness(self._settings, step.name, bird.id), self._connection)
        except ConnectionFailedError:
            raise
        except UsersyncError as error:
            fault = Fault(getattr(error, "sqlstate", None), f"the row could not be looked at: {error}")
            return Attempt(step.name, "differs", fault)

    def _bird(self, step: Step) -> Bird | None:
        if step.after is not None and step.after not in self._done:
            return None
        if not step.new:
            return self._birds.get(step.user)
        if step.address_of is None:
            return hatch()
        other = self._birds.get(step.address_of)
        return None if other is None else replace(hatch(), email=other.email)

    def _refused(self, step: Step, error: GoTrueError | psycopg.Error) -> Attempt:
        cause = error.__cause__ if isinstance(error, GoTrueError) else error
        if not isinstance(cause, psycopg.Error):
            return Attempt(step.name, "refused", Fault(None, str(error)))
        if self._connection.closed:
            raise cause
        said = cause.diag
        functions = re.findall(r"^(?:PL/pgSQL|SQL) function (.+?\))", said.context or "", re.MULTILINE)
        fault = Fault(
            cause.sqlstate,
            (said.message_primary or str(cause)).strip(),
            said.constraint_name,
            said.column_name,
            functions[0] if functions else None,
        )
        return run(plans.refused(step.name, fault, functions), self._connection)
