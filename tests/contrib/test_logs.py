"""The request id in the lines of the application's own log."""

from __future__ import annotations

import io
import json
import logging

import structlog

from usersync.audit.event.context import entered
from usersync.contrib.logs import ContextFilter, add_context

ADA = {"request_id": "r-1", "tenant_id": "acme", "actor_id": "ada", "ip": "192.0.2.1"}


def test_records_of_logging():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(request_id)s|%(tenant_id)s|%(actor_id)s|%(message)s"))
    logger = logging.getLogger("shop_of_test_logs")
    logger.propagate = False
    logger.addHandler(handler)
    logger.warning("before")
    with entered(ADA):
        logger.warning("in")
        logger.warning("own", extra={"request_id": "mine"})
        with entered({"actor_id": lambda: 1 / 0, "request_id": "x" * 500}):
            logger.warning("callable")
    first, second, third, fourth = stream.getvalue().splitlines()
    assert [first, second, third] == ["|||before", "r-1|acme|ada|in", "mine|acme|ada|own"]
    assert fourth.endswith("|acme||callable")
    assert len(fourth) < 220


def test_events_of_structlog():
    stream = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(stream), processors=[add_context, structlog.processors.JSONRenderer()]
    )
    log.info("before")
    with entered(ADA):
        log.info("in", tenant_id="mine")
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"event": "before"},
        {"event": "in", "request_id": "r-1", "tenant_id": "mine", "actor_id": "ada"},
    ]
