"""The share of usersync's triggers in the duration of a flow.

``EXPLAIN ANALYZE`` runs a statement and returns its duration and that of each trigger. Both numbers come from
the same run, so the network and other load do not affect their ratio.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.errors import ConnectionFailedError, UsersyncError
from usersync.gotrue import GoTrueError
from usersync.schema.trial.flows import FLOWS, Keys, flows_before, make_person
from usersync.schema.trial.observation import Timing
from usersync.schema.trial.observer import Observer
from usersync.transports.run import run
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usersync.config.settings import Settings
    from usersync.schema.trial.flows import Flow
    from usersync.schema.trial.observation import Trial

#: Frequent flows, and flows that people wait for.
TIMED_FLOWS = ("sign-up by e-mail with autoconfirm", "sign-in", "change of e-mail", "hard deletion")
#: The first round is not counted: a server process plans a function when it first runs it.
ROUNDS = 6

_OURS = """
    select tgname from pg_trigger
    join pg_proc on pg_proc.oid = tgfoid
    where tgrelid = 'auth.users'::regclass and pronamespace = to_regnamespace('usersync')
"""


def measure(
    connection: psycopg.Connection[Any], settings: Settings, trial: Trial, first: Sequence[str]
) -> tuple[Timing, ...]:
    """The durations of the flows that the trial accepted, without flows that fail now. Blocks."""
    observer = Observer(connection, tuple(first), {}, None)
    if observer.prepare(settings).obstacle is not None:
        return ()
    found = []
    for name in TIMED_FLOWS:
        if name in trial.observations and trial[name].state == "accepted":
            keys = Keys(tuple(key for key in trial.metadata_keys.get(name, ()) if "." not in key))
            found.append(_timed(observer, FLOWS[name], keys))
    return tuple(each for each in found if each is not None)


def _timed(observer: Observer, flow: Flow, keys: Keys) -> Timing | None:
    samples = []
    try:
        for _ in range(ROUNDS):
            with observer.connection.transaction(force_rollback=True):
                observer.begin()
                samples.append(_once(observer, flow, keys))
    except (psycopg.Error, GoTrueError, UsersyncError) as error:
        if observer.connection.closed or isinstance(error, ConnectionFailedError):
            raise
        return None
    totals, ours = zip(*samples[1:], strict=True)
    return Timing(flow.name, round(median(totals), 3), round(median(ours), 3))


def _once(observer: Observer, flow: Flow, keys: Keys) -> tuple[float, float]:
    """The duration of the request's statements on auth.users, and of usersync's triggers, in milliseconds."""
    names = {row["tgname"] for row in run(query(_OURS), observer.connection)}
    auth, person = observer.session(), make_person(keys)
    for before in flows_before(flow):
        before.act(auth, person)
    times: list[Mapping[str, Any]] = []
    auth.recorder.times = times
    flow.act(auth, person)
    total = sum(float(each["Execution Time"]) for each in times)
    return total, sum(_of(names, each) for each in times)


def _of(names: set[str], explained: Mapping[str, Any]) -> float:
    fired = explained.get("Triggers", ())
    return sum(float(each["Time"]) for each in fired if each.get("Trigger Name") in names)
