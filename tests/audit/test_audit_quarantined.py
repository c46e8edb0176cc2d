"""Quarantined events: the database refuses them in every form, so the spool keeps them for a retry.

No real event is known that the database refuses. These tests make it refuse marked events.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from psycopg import sql

from usersync.errors import DatabaseError

pytestmark = pytest.mark.newest_server


@pytest.fixture
def refuse(store):
    """A function that makes the database refuse events that contain a text. None: accept all events."""
    store.owner.execute("alter function public.record_audit_events(jsonb) rename to inner_record")

    def refuse(mark):
        store.owner.execute(
            sql.SQL(
                """create or replace function public.record_audit_events(events jsonb) returns jsonb
                language plpgsql as $$
                begin
                  if strpos(events::text, {mark}) > 0 then
                    raise exception 'refused for %', {mark} using errcode = '22023';
                  end if;
                  return public.inner_record(events);
                end $$"""
            ).format(mark=mark)
        )

    return refuse


@pytest.fixture
def _refuse_marked_events(refuse):
    refuse("poison")


def test_an_event_is_retried_if_apply_replaces_the_function_meanwhile(store, make_log, refuse, eventually):
    """A call during ``apply`` may fail with XX000, "cache lookup failed for function"."""
    refuse("poison")
    store.owner.execute(
        "do $$ begin execute replace(pg_get_functiondef('public.record_audit_events(jsonb)'::regprocedure), "
        "'22023', 'XX000'); end $$"
    )
    log = make_log(store.dsn)
    event = log.record("poison")
    eventually(lambda: log.stats().consecutive_failures)
    refuse("nothing")
    assert log.flush()
    assert (store.ids(), log.stats().quarantined) == ([event], 0)


def quarantined_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select event, reason from refused order by number").fetchall()


@pytest.mark.usefixtures("_refuse_marked_events")
def test_an_event_that_the_database_refuses_is_quarantined_and_the_others_are_stored(
    store, make_log, spool_dir, caplog
):
    log = make_log(store.dsn, keep_delivered=0)
    ids = [log.record("a.b") for _ in range(200)]
    bad = log.record("poison")
    ids += [log.record("a.b") for _ in range(100)]
    assert not log.flush()
    assert sorted(store.ids()) == sorted(ids)
    stats = log.stats()
    assert (stats.quarantined, stats.stored, stats.waiting) == (1, 300, 0)
    assert "refused for poison" in caplog.text
    # They are kept after the end of the process, and moved to the file of the next process.
    log.close()
    assert len(list(spool_dir.rglob("*.spool"))) == 1
    after = make_log(store.dsn)
    after.record("a.b")
    assert after.drain()
    ((_, event, reason),) = after._engine.intake.spool.quarantined()
    assert bad.encode() in event
    assert reason == "refused for poison (22023)"


@pytest.mark.usefixtures("_refuse_marked_events")
def test_quarantined_events_in_any_file_can_be_retried(store, make_log, spool_dir, refuse, monkeypatch):
    """The events are in files of running and ended processes. Each is retried once."""
    # No process takes over the file of the process that ends.
    monkeypatch.setattr("usersync.audit.spool.orphaned_files.OrphanedFiles.look", lambda _: None)
    logs = [make_log(store.dsn) for _ in range(3)]
    bad = []
    for log in logs:
        bad += [log.record("poison.drunk", metadata={"n": n}) for n in range(30)]
        assert not log.flush()
    logs[0].close()
    assert store.ids() == []
    refuse(None)
    result = logs[1].retry_quarantined()
    assert (result.stored, result.duplicates, result.rejected, result.quarantined) == (90, 0, 0, 0)
    assert sorted(store.ids()) == sorted(bad)
    # The file of the ended process may have been deleted.
    assert {str(quarantined_in(path)) for path in spool_dir.rglob("*.spool")} == {"[]"}
    assert logs[1].retry_quarantined() == type(result)()
    # The processes whose files were changed continue as before.
    more = [log.record("a.b") for log in logs[1:]]
    assert all(log.flush() for log in logs[1:])
    assert set(more) <= set(store.ids())


def test_an_event_that_is_refused_again_keeps_the_newest_reason(store, make_log, spool_dir, refuse):
    log = make_log(store.dsn, batch_events=4)
    refuse("number")
    ids = [log.record("odd.counted" if n % 2 else "even.counted", metadata={"number": n}) for n in range(10)]
    assert not log.flush()
    (path,) = spool_dir.rglob("*.spool")
    assert [reason for _, reason in quarantined_in(path)] == ["refused for number (22023)"] * 10
    refuse("odd")
    result = log.retry_quarantined()
    assert (result.stored, result.quarantined) == (5, 5)
    kept = quarantined_in(path)
    assert [reason for _, reason in kept] == ["refused for odd (22023)"] * 5
    assert all(b"odd.counted" in event for event, _ in kept)
    assert sorted(store.ids()) == ids[::2]


@pytest.mark.usefixtures("_refuse_marked_events")
def test_an_event_that_is_already_stored_is_not_stored_twice(store, make_log, spool_dir, refuse):
    log = make_log(store.dsn)
    bad = log.record("poison")
    assert not log.flush()
    (path,) = spool_dir.rglob("*.spool")
    ((payload, _),) = quarantined_in(path)
    refuse(None)
    # This simulates a lost answer.
    store.owner.execute("select public.record_audit_events(%s::jsonb)", (f"[{payload.decode()}]",))
    result = log.retry_quarantined()
    assert (result.stored, result.duplicates) == (0, 1)
    assert store.ids() == [bad]
    assert quarantined_in(path) == []


@pytest.mark.usefixtures("_refuse_marked_events")
def test_quarantined_events_are_kept_if_the_database_is_unavailable(store, make_log, spool_dir):
    log = make_log(store.dsn)
    log.record("poison")
    assert not log.flush()
    away = make_log("postgresql://u@127.0.0.1:1/nowhere")
    with pytest.raises(DatabaseError, match="could not be retried") as raised:
        away.retry_quarantined()
    assert "still in the spool" in raised.value.hint
    (path,) = spool_dir.rglob("*.spool")
    assert len(quarantined_in(path)) == 1


@pytest.mark.usefixtures("_refuse_marked_events")
def test_an_unreadable_file_does_not_block_others(store, make_log, spool_dir, refuse, caplog):
    log = make_log(store.dsn)
    bad = log.record("poison")
    assert not log.flush()
    # This file sorts first and is not a spool.
    (spool_dir / "test" / "0-strange.spool").write_bytes(b"no database" * 1000)
    refuse(None)
    assert log.retry_quarantined().stored == 1
    assert store.ids() == [bad]
    assert "is not readable" in caplog.text


@pytest.mark.parametrize("options", [{"durability": "memory"}, {}])
def test_without_a_spool_no_event_is_retried(make_log, options):
    assert make_log(None, **options).retry_quarantined().stored == 0
