"""The trace that an event belongs to, where the process uses OpenTelemetry."""

from __future__ import annotations

import sys


def current_trace() -> dict[str, str]:
    """The field ``traceparent`` of the current span, as W3C Trace Context writes it; empty without a span.

    This function does not import OpenTelemetry: a process with a span has imported it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    try:
        span = trace.get_current_span().get_span_context()
        found = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    except Exception:  # noqa: BLE001 - recording never raises, whatever a tracer does
        return {}
    return {"traceparent": found} if span.is_valid else {}
