"""Messages of the audit log are logged without holding a lock, and name the reason."""

from __future__ import annotations

import logging
import threading

import pytest

pytestmark = pytest.mark.newest_server


class Recording(logging.Handler):
    """A log handler that waits for another thread, which records an event for each log record."""

    def __init__(self, log):
        super().__init__()
        self.log = log
        self.recorded = []

    def emit(self, record):  # noqa: ARG002 - the name is logging's
        other = threading.Thread(target=lambda: self.recorded.append(self.log.record("log.warning")))
        other.start()
        other.join(10)


@pytest.fixture
def recording():
    handlers = []

    def attach(log):
        handler = Recording(log)
        handlers.append(handler)
        logging.getLogger("usersync.audit").addHandler(handler)
        return handler

    yield attach
    for handler in handlers:
        logging.getLogger("usersync.audit").removeHandler(handler)


def test_a_log_handler_may_wait_for_recording_threads_while_the_spool_fails(make_log, recording, tmp_path):
    (tmp_path / "a_file").write_text("where the directory should be")
    log = make_log(None, spool_dir=tmp_path / "a_file")
    handler = recording(log)
    log.record("a.b")
    assert len(handler.recorded) == 1
    assert all(handler.recorded)


def test_a_log_handler_may_wait_for_recording_threads_while_no_thread_can_start(
    make_log, recording, monkeypatch
):
    log = make_log("postgresql://u@127.0.0.1:1/nowhere")
    handler = recording(log)
    writer = log._running()._writer

    def fail(thread):
        if thread.name == "usersync-audit":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", fail)
    assert log.record("a.b")
    assert len(handler.recorded) == 1
    assert all(handler.recorded)
    assert writer._thread is None


def test_the_warning_names_a_rejected_event_the_reason_and_the_command(log, caplog):
    event_id = log.record("stock.counted", actor_id=lambda: {"actor_type": "robot"})
    assert log.flush()
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"stock.counted ({event_id})" in said
    assert "is_user_service_system_or_anonymous" in said
    assert "usersync audit rejects" in said
