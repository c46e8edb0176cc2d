"""ensure_user_exists() caches which users have a row, and caches no negative answer."""

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


def test_a_full_cache_removes_its_oldest_entry(monkeypatch):
    monkeypatch.setattr(PositiveCache, "SIZE", 2)
    cache = PositiveCache()
    for user in (ADA, BOB, ADA, uuid.UUID(int=3)):
        cache.add(user)
    assert [cache.has(user) for user in (ADA, BOB, uuid.UUID(int=3))] == [True, False, True]


CURRENT = "00000000-0000-0000-0000-000000000001 7/5 00000001"


@pytest.mark.parametrize(
    ("position", "is_kept"),
    [
        (CURRENT, True),
        (CURRENT.replace("7/5", "8/5"), False),
        (CURRENT.replace("00000001", "00000002"), False),
        # A standby reports no timeline, and an unavailable database reports nothing.
        (CURRENT.removesuffix(" 00000001"), True),
        ("", True),
        # A database whose settings were removed does not report its installation.
        ("- 8/5 00000001", True),
    ],
)
def test_another_cluster_or_timeline_empties_the_cache(position, is_kept):
    cache = PositiveCache()
    cache.update_position(DatabasePosition.read(CURRENT))
    cache.add(ADA)
    cache.update_position(DatabasePosition.read(position))
    assert cache.has(ADA) == is_kept
    cache.add(BOB)
    cache.update_position(DatabasePosition.read(CURRENT))
    assert cache.has(BOB) == (position == CURRENT or is_kept)


def test_the_position_is_queried_periodically(clock):
    cache = PositiveCache()
    assert cache.wants_position
    cache.update_position(None)
    assert not cache.wants_position
    clock[0] += PositiveCache.LOOK_SECONDS
    assert cache.wants_position


@pytest.mark.newest_server
def test_a_cached_answer_requires_no_query(project, make_client, flavour):
    user = project.auth.sign_up_email("ada@example.com")
    client = make_client(flavour, "dsn", project.database.dsn())
    assert client.ensure_user_exists(user)
    project.owner.execute("drop function public.ensure_user_exists(uuid)")
    assert client.ensure_user_exists(user)


@pytest.mark.newest_server
def test_a_negative_answer_is_not_cached(project, make_client, flavour):
    client = make_client(flavour, "dsn", project.database.dsn())
    assert not client.ensure_user_exists(ADA)
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("insert into auth.users (id) values (%s)", [ADA])
    assert client.ensure_user_exists(ADA)


@pytest.mark.newest_server
def test_remove_user_removes_the_user_from_the_cache(project, make_client, flavour, delete_without_triggers):
    user = project.auth.sign_up_email("ada@example.com")
    client = make_client(flavour, "dsn", project.database.dsn())
    assert client.ensure_user_exists(user)
    delete_without_triggers(user)
    client.remove_user(user)
    project.owner.execute(f"delete from {project.users}")
    assert not client.ensure_user_exists(user)


@pytest.mark.newest_server
def test_cached_answers_are_used_while_the_database_is_unavailable(
    project, make_client, flavour, monkeypatch
):
    monkeypatch.setattr(PositiveCache, "LOOK_SECONDS", 0.0)
    user = project.auth.sign_up_email("ada@example.com")
    with Proxy(project.database.host, project.database.port) as proxy:
        client = make_client(flavour, "dsn", proxy.through(project.database.dsn()))
        assert client.ensure_user_exists(user)
    assert client.ensure_user_exists(user)
