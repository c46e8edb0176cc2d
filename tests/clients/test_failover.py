"""A client's cache of existing users, when a standby becomes the primary."""

from __future__ import annotations

import psycopg
import pytest

from fixtures_replication import has_replayed
from proxy import Proxy
from usersync import UserSync
from usersync.core.progress import PositiveCache
from usersync.testing import GoTrue
from waiting import until

pytestmark = pytest.mark.newest_server


def test_the_cache_is_emptied_when_a_standby_is_promoted(pair, exit_stack, monkeypatch):
    monkeypatch.setattr(PositiveCache, "LOOK_SECONDS", 0.0)
    lag = exit_stack.enter_context(Proxy(pair.primary.host, pair.primary.port))
    standby = exit_stack.enter_context(pair.standby(lag))
    auth = exit_stack.enter_context(GoTrue(pair.primary.dsn(pair.database)))
    client = exit_stack.enter_context(UserSync(pair.dsn))
    there = auth.sign_up_email("there@example.com")
    until(lambda: has_replayed(pair.primary, standby))
    lag.silent.set()
    lost = auth.sign_up_email("lost@example.com")
    assert client.ensure_user_exists(there)
    assert client.ensure_user_exists(lost)
    auth.close()
    pair.primary.kill()
    # No server answers, so the client answers from its cache.
    assert client.ensure_user_exists(lost)
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)
    pair.fail_over_to(standby)
    assert not client.ensure_user_exists(lost)
    assert client.ensure_user_exists(there)
