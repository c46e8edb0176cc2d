"""Events have the trace context of the current span if the process uses OpenTelemetry."""

from __future__ import annotations

import json
import subprocess
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from usersync import AuditLog
from usersync.audit.event.context import entered
from usersync.contrib.carrying import carried_context, resumed_context

OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


def traceparent(audit, **event):
    return json.loads(audit.prepare("a.b", **event).payload).get("traceparent")


def test_an_event_has_the_traceparent_of_the_current_span(tmp_path):
    audit = AuditLog("postgresql://nobody@127.0.0.1:1/none", spool_dir=tmp_path)
    tracer = TracerProvider().get_tracer("test")
    assert traceparent(audit) is None
    with tracer.start_as_current_span("request") as span, entered({"actor_id": "ada"}):
        context = span.get_span_context()
        current = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        assert traceparent(audit) == current
        assert traceparent(audit, metadata={"a": 1}) == current
        assert traceparent(audit, traceparent=OTHER) == OTHER
        carried = carried_context()
    assert carried == {"actor_id": "ada", "traceparent": current}
    with resumed_context(carried):
        # The span is the request's until the job starts one.
        assert traceparent(audit) == current
        with tracer.start_as_current_span("job"):
            assert traceparent(audit) not in {None, current}
    assert traceparent(audit) is None


def test_an_event_is_recorded_without_trace_if_the_tracer_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "get_current_span", lambda: 1 / 0)
    assert traceparent(AuditLog("postgresql://nobody@127.0.0.1:1/none", spool_dir=tmp_path)) is None


def test_recording_does_not_import_opentelemetry():
    code = (
        "import sys, usersync; usersync.AuditLog('postgresql://h/d').prepare('a.b');"
        "print('opentelemetry' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
