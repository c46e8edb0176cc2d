"""captured_events(), captured() and usersync_events, by which tests of an application check its events."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from usersync import AuditLog
from usersync.audit import EventRecord
from usersync.testing import captured_events

UNREACHABLE = "postgresql://postgres@127.0.0.1:1/postgres"

#: A log at module level, as an application creates it.
audit = AuditLog(UNREACHABLE)


def test_events_of_every_method_are_captured(usersync_events, tmp_path, monkeypatch):
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path))
    user_id = "6f1de2f1-6b3a-4f0e-9d4e-0d6f4d1c2a10"
    with audit.context(actor_id=user_id, request_id="r-1"):
        first = audit.record("stock.counted", entity=("product", 42), before={"n": 1}, after={"n": 2})
    with audit.action("stock.moved", metadata={"from": "A"}):
        pass
    audit.record_prepared(audit.prepare("stock.prepared", user_id=user_id))
    with Session(create_engine(UNREACHABLE.replace("postgresql:", "postgresql+psycopg:"))) as session:
        assert audit.record_in(session, "stock.in", required=True)
        assert audit.record_prepared_in(session, [audit.prepare("stock.both")] * 2) == 2

    async def later():
        engine = create_async_engine(UNREACHABLE.replace("postgresql:", "postgresql+psycopg:"))
        assert await audit.record_in(engine.connect(), "stock.awaited")
        assert await audit.arecord_in(engine.connect(), "stock.awaited.too", required=True)

    asyncio.run(later())
    thread = threading.Thread(target=audit.record, args=["stock.elsewhere"])
    thread.start()
    thread.join()
    assert [event.action for event in usersync_events] == [
        "stock.counted", "stock.moved", "stock.prepared", "stock.in", "stock.both", "stock.both",
        "stock.awaited", "stock.awaited.too", "stock.elsewhere",
    ]  # fmt: skip
    counted, moved, prepared = usersync_events[:3]
    assert isinstance(counted, EventRecord)
    assert str(counted.id) == first
    assert (counted.actor_id, counted.actor_type, counted.request_id) == (user_id, "user", "r-1")
    assert (counted.entity_type, counted.entity_id, counted.changes) == ("product", "42", {"n": [1, 2]})
    assert (moved.outcome, moved.metadata, counted.metadata) == ("succeeded", {"from": "A"}, {})
    assert (str(prepared.user_id), prepared.recorded_at) == (user_id, None)
    assert counted.occurred_at.tzinfo is not None
    assert audit.stats().accepted == 0, "nothing is stored"
    assert list(tmp_path.iterdir()) == []


def test_events_of_one_log_or_of_all_logs_are_captured(tmp_path):
    with AuditLog(UNREACHABLE, spool_dir=tmp_path, exit_timeout=0) as other:
        with captured_events() as all_events, audit.captured() as mine:
            audit.record("mine")
            other.record("theirs")
            with pytest.raises(TypeError):
                audit.record("mine", entitty="product/1")
        assert [[event.action for event in each] for each in (mine, all_events)] == [["mine"], ["theirs"]]
        assert other.record("stored")
        assert other.stats().accepted == 1
        other.close(timeout=0)
