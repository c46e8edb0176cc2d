"""ensure_user_exists remembers who has a row, and nothing else."""

from __future__ import annotations

import uuid

import pytest

from proxy import Proxy
from usersync.core import progress
from usersync.core.position import DatabasePosition
from usersync.core.progress import PositiveCache

ADA, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_positive_answer_is_kept_for_ten_minutes(clock):
    cache = PositiveCache()
    assert not cache.has(ADA)
    cache.add(ADA)
    clock[0] += PositiveCache.SECONDS - 1
    assert cache.has(ADA)
    assert not cache.has(BOB)
    clock[0] += 1
    assert not cache.has(ADA)


def test_the_cache_does_not_grow_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(PositiveCache, "SIZE", 2)
    cache = PositiveCache()
    for user in (ADA, BOB, ADA, uuid.UUID(int=3)):
        cache.add(user)
    assert [cache.has(user) for user in (ADA, BOB, uuid.UUID(int=3))] == [True, False, True]


HERE = "00000000-0000-0000-0000-000000000001 7/5 00000001"


@pytest.mark.parametrize(
    ("position", "is_kept"),
    [
        (HERE, True),
        (HERE.replace("7/5", "8/5"), False),
        (HERE.replace("00000001", "00000002"), False),
        # A standby has no timeline, and a database that is away says nothing.
        (HERE.removesuffix(" 00000001"), True),
        ("", True),
        # Nor does a database whose settings were removed say which installation it is.
        ("- 8/5 00000001", True),
    ],
)
def test_another_cluster_or_timeline_empties_it(position, is_kept):
    cache = PositiveCache()
    cache.update_position(DatabasePosition.read(HERE))
    cache.add(ADA)
    cache.update_position(DatabasePosition.read(position))
    assert cache.has(ADA) == is_kept
    cache.add(BOB)
    cache.update_position(DatabasePosition.read(HERE))
    assert cache.has(BOB) == (position == HERE or is_kept)


def test_the_position_is_asked_for_now_and_then(clock):
    cache = PositiveCache()
    assert cache.wants_position
    cache.update_position(None)
    assert not cache.wants_position
    clock[0] += PositiveCache.LOOK_SECONDS
    assert cache.wants_position


@pytest.mark.newest_server
def test_a_positive_answer_costs_no_query_the_second_time(project, make_client, flavour):
    user = project.auth.sign_up_email("ada@example.com")
    client = make_client(flavour, "dsn", project.database.dsn())
    assert client.ensure_user_exists(user)
    project.owner.execute("drop function public.ensure_user_exists(uuid)")
    assert client.ensure_user_exists(user)


@pytest.mark.newest_server
def test_a_negative_answer_is_not_remembered(project, make_client, flavour):
    client = make_client(flavour, "dsn", project.database.dsn())
    assert not client.ensure_user_exists(ADA)
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id) values (%s)", [ADA])
    assert client.ensure_user_exists(ADA)


@pytest.mark.newest_server
def test_a_removed_user_is_queried_again(project, make_client, flavour, delete_without_triggers):
    user = project.auth.sign_up_email("ada@example.com")
    client = make_client(flavour, "dsn", project.database.dsn())
    assert client.ensure_user_exists(user)
    delete_without_triggers(user)
    client.remove_user(user)
    project.owner.execute(f"delete from {project.users}")
    assert not client.ensure_user_exists(user)


@pytest.mark.newest_server
def test_cached_users_count_while_the_database_is_unavailable(project, make_client, flavour, monkeypatch):
    monkeypatch.setattr(PositiveCache, "LOOK_SECONDS", 0.0)
    user = project.auth.sign_up_email("ada@example.com")
    with Proxy(project.database.host, project.database.port) as proxy:
        client = make_client(flavour, "dsn", proxy.through(project.database.dsn()))
        assert client.ensure_user_exists(user)
    assert client.ensure_user_exists(user)
