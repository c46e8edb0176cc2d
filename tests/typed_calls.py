"""Calls of the public API for type checkers. test_typed_calls.py checks this file. It is never executed.

A line with ``# wrong`` must be an error. Every other line must not be one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Unpack
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
import psycopg
import sqlalchemy
from psycopg_pool import ConnectionPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from usersync import AsyncUserSync, AuditLog, AuditOptions, ContextFields, EventFields, UserSync
from usersync.contrib.alembic import apply_usersync, rollback_usersync
from usersync.contrib.auth import VerifiedUser  # noqa: TC001 - as an application imports it


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    number: Mapped[int] = mapped_column(primary_key=True)


@dataclasses.dataclass
class Product:
    id: int
    name: str


class Widget: ...


def options(pool: ConnectionPool, given: AuditOptions) -> None:
    AuditLog("postgresql://", durability="memory", spool_bytes=1, strict=False)
    AuditLog(pool, redact=("iban",), denied=[LookupError])
    AuditLog.from_env(**given)
    AuditLog.recording_only(spool_dir=None, send_timeout=5)
    AuditLog()  # wrong
    AuditLog(None)  # wrong
    AuditLog("postgresql://", spool_byte=1)  # wrong
    AuditLog("postgresql://", durability="paper")  # wrong
    AuditLog.from_env(durability="paper")  # wrong
    AuditLog.recording_only(nosuch=1)  # wrong


def fields(audit: AuditLog, item: Item, product: Product, widget: Widget) -> None:
    audit.record("x", outcome="denied", actor_type="service", request_id=UUID(int=1), ip="::1")
    audit.record("x", changes={"stock": (1, 2), "name": ("a", None)})
    audit.record("x", changes={"stock": [1, 2]}, occurred_at=datetime.now())
    audit.record("x", before=product, after={"a": 1}, occurred_at=date.today(), user_agent=None)
    audit.record("x", entity=("product", 42))
    audit.record("x", entity=item, actor_id=product)
    audit.record("x", entity=product, metadata={"a": {"b": 1}}, actor_id=lambda: "ada")
    audit.record("x", entitty=("product", 42))  # wrong
    audit.record("x", entity="product")  # wrong
    audit.record("x", entity=9)  # wrong
    audit.record("x", entity=("product",))  # wrong
    audit.record("x", entity=widget)  # wrong
    audit.record("x", changes={"stock": {"old": 1, "new": 2}})  # wrong
    audit.record("x", outcome="denid")  # wrong
    audit.record("x", actor_type="admin")  # wrong
    audit.record("x", actor_id=widget)  # wrong
    audit.record("x", metadata="note")  # wrong
    audit.record("x", ip=5)  # wrong
    audit.record("x", user_id=5)  # wrong
    audit.record(5)  # wrong
    audit.prepare("x", entitty=1)  # wrong


def blocks(audit: AuditLog, given: ContextFields, item: Item, user: VerifiedUser) -> None:
    audit.context(**given)
    audit.context(**user.actor)
    audit.new_context(actor_id="ada", metadata={"tenant": 1})
    audit.context(actorid=5)  # wrong
    audit.new_context(tenant="t")  # wrong
    audit.amend_context(actorid=5)  # wrong
    with audit.context(actor_id="ada"), audit.action("x", outcome="denied", entity=item) as event:
        event.outcome = "failed"
        event.change("a", 1, 2)
        event.metadata["note"] = 1
        event.outcom = "denied"  # wrong
        event.outcome = "denid"  # wrong
        event.id = "mine"  # wrong
        event.change(5, 1, 2)  # wrong
    audit.action("x", after={"a": 1})  # wrong
    audit.action("x", outcome="denid")  # wrong


def connections(
    audit: AuditLog, one: psycopg.Connection[Any], two: sqlalchemy.Connection, three: Session
) -> None:
    found: str | None = audit.record_in(one, "x", required=True, entity=("product", 42))
    found = audit.record_in(two, "x")
    found = audit.record_in(three, "x", metadata={"a": 1})
    audit.record_in(one, "x", entitty=1)  # wrong
    audit.record_in(None, "x")  # wrong
    audit.record_in("postgresql://", "x")  # wrong
    audit.record_in(one.cursor(), "x")  # wrong
    audit.record_in(two.engine, "x")  # wrong


class Executor:
    def execute(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        return []


class AsyncExecutor:
    async def execute(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        return []


async def other_drivers(audit: AuditLog, one: asyncpg.Connection, two: asyncpg.Pool) -> None:
    audit.record_in(Executor(), "x", entity=("product", 42))
    await audit.arecord_in(one, "x", entity=("product", 42), required=True)
    await audit.arecord_in(two, "x")
    await audit.arecord_in(AsyncExecutor(), "x")
    await audit.record_in(one, "x")
    AsyncUserSync(one)
    AsyncUserSync(two)
    AsyncUserSync(AsyncExecutor())
    await audit.arecord_in(one, "x", entitty=1)  # wrong
    await audit.arecord_in(Executor(), "x")  # wrong
    await audit.arecord_in("postgresql://", "x")  # wrong
    AsyncUserSync(None)  # wrong
    UserSync(AsyncExecutor())  # wrong


async def asyncio_connections(
    audit: AuditLog,
    one: psycopg.AsyncConnection[Any],
    two: AsyncConnection,
    three: AsyncSession,
    engine: AsyncEngine,
) -> None:
    found: str | None = await audit.record_in(one, "x")
    found = await audit.record_in(two, "x")
    found = await audit.record_in(three, "x", required=True)
    async with AuditLog.from_env() as log, log.context(actor_id="ada"), log.action("x"):
        await log.aflush()
    await audit.arecord_in(one, "x")
    await audit.arecord_in(two, "x")
    await audit.arecord_in(three, "x")
    AsyncUserSync(two)
    AsyncUserSync(three)
    await audit.arecord_in(engine, "x")  # wrong
    await audit.arecord_in(None, "x")  # wrong
    await audit.record_in(engine, "x")  # wrong
    await audit.record_in(one.cursor(), "x")  # wrong


def upgrade() -> None:
    apply_usersync()
    rollback_usersync(drop_audit_log=True)
    apply_usersync("usersync.toml")  # wrong
    rollback_usersync(drop_log=True)  # wrong


class Wrapper:
    """An application's own function around record()."""

    def __init__(self, audit: AuditLog) -> None:
        self.audit = audit

    def record(self, action: str, **event: Unpack[EventFields]) -> None:
        self.audit.record(f"shop.{action}", **event)


def wrapped(wrapper: Wrapper) -> None:
    wrapper.record("x", entity=("product", 42))
    wrapper.record("x", entitty=1)  # wrong
