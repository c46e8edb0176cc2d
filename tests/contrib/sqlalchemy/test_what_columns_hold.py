"""track() and row tracking record the same of the same change, whatever the type of the column."""

# ruff: noqa: N806, DTZ001, ARG002 - classes that a fixture makes; columns without a zone; SQLAlchemy's methods

from __future__ import annotations

import base64
import enum
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    func,
)  # fmt: skip
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, relationship
from sqlalchemy.types import UserDefinedType

from audit_settings import with_audit_log
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.contrib.sqlalchemy import track
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Encrypted(TypeDecorator):
    """Stores a text so that only the application can read it."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else base64.b85encode(value.encode())

    def process_result_value(self, value, dialect):
        return None if value is None else base64.b85decode(value).decode()


class Cents(TypeDecorator):
    """An amount of money as a whole number."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else int(value * 100)

    def process_result_value(self, value, dialect):
        return None if value is None else Decimal(value) / 100


class Point(UserDefinedType):
    """A type of PostgreSQL that SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_):
        return "point"

    def bind_processor(self, dialect):
        return lambda value: None if value is None else f"({value[0]},{value[1]})"

    def result_processor(self, dialect, coltype):
        return lambda value: None if value is None else tuple(map(float, value.strip("()").split(",")))


class EncryptedByDatabase(TypeDecorator):
    """Encrypts in the database, as with pgcrypto."""

    impl = Text
    cache_ok = True

    def bind_expression(self, bindvalue):
        return func.md5(bindvalue)


EAST = timezone(timedelta(hours=5, minutes=30))
NOW = datetime(2026, 7, 1, 12, 30, 15, 120000, tzinfo=UTC)

#: Of each column: its type, and the values that it is created with and changed to.
COLUMNS = {
    "native_enum": (Enum(Colour, name="colour"), Colour.RED, Colour.BLUE),
    "text_enum": (Enum("x", "y", native_enum=False), "x", "y"),
    "valued_enum": (
        Enum(Colour, native_enum=False, values_callable=lambda kind: [each.value for each in kind]),
        Colour.RED, Colour.BLUE,
    ),
    "price": (Numeric(10, 2), Decimal("1.005"), Decimal("2.50")),
    "exact": (Numeric, Decimal("1e-9"), Decimal("12345.678900")),
    "amount": (Numeric(10, 2, asdecimal=False), 0.1, 7.0),
    "ratio": (Float, 0.1, 1e20),
    "short_ratio": (pg.REAL, 0.123456789, 0.5),
    "big": (BigInteger, 2**62, -1),
    "flag": (Boolean, True, False),
    "day": (Date, date(2026, 2, 28), date(2026, 3, 1)),
    "day_of_time": (Date, NOW, date(2026, 3, 1)),
    "instant": (DateTime(timezone=True), NOW, NOW.astimezone(EAST) + timedelta(microseconds=1)),
    "whole_second": (DateTime(timezone=True), NOW.replace(microsecond=0), NOW),
    "local": (DateTime, datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 12, 0, 0, 500)),
    "rounded": (pg.TIMESTAMP(precision=0), datetime(2026, 7, 1, 12, 0, 0, 900000), datetime(2026, 7, 2)),
    "naive_instant": (DateTime(timezone=True), datetime(2026, 7, 1, 12), NOW),
    "clock": (Time, time(12, 30), time(1, 2, 3, 4)),
    "zoned_clock": (Time(timezone=True), time(12, 30, tzinfo=EAST), time(1, tzinfo=UTC)),
    "lasts": (Interval, timedelta(days=1, seconds=3), timedelta(milliseconds=-1)),
    "native_interval": (pg.INTERVAL, timedelta(hours=25), timedelta(0)),
    "uid": (Uuid, UUID(int=7), UUID(int=8)),
    "text_uid": (Uuid(as_uuid=False), str(UUID(int=7)), str(UUID(int=8))),
    "content": (LargeBinary, b"\0\1", b"x" * 300),
    "padded": (CHAR(5), "ab", "abc"),
    "name": (String(20), "Ü\N{GRINNING FACE}", "b"),
    "note": (Text, "long " * 5000, "x"),
    "document": (pg.JSONB(none_as_null=True), {"a": [1, 2.5, None]}, [True]),
    "plain_document": (JSON(none_as_null=True), {"b": "x"}, {"b": "y"}),
    "tags": (ARRAY(String), ["a", "b,c"], []),
    "numbers": (ARRAY(Numeric), [Decimal("1.50"), None], [Decimal(7)]),
    "colours": (ARRAY(Enum(Colour, name="colour")), [Colour.RED], [Colour.BLUE, Colour.RED]),
    "address": (pg.INET, "10.0.0.1", "::1"),
    "network": (pg.CIDR, "10.0.0.0/8", "::/64"),
    "bits": (pg.BIT(3), "101", "010"),
    "span": (pg.INT4RANGE, pg.Range(1, 5), pg.Range(2, None)),
    "words": (pg.TSVECTOR, "a cat", "a dog"),
    "pickled": (PickleType, {"a": 1}, {"a": 2}),
    "encrypted": (Encrypted, "private", "more private"),
    "cents": (Cents, Decimal("1.50"), Decimal(2)),
    "place": (Point, (1, 2), (3, 4.5)),
    "api_key": (Text, "private", "more private"),
    "max_tokens": (Integer, 1, 2),
    "seen_token_at": (DateTime(timezone=True), NOW, NOW + timedelta(1)),
    "token": (Enum(Colour, name="colour"), Colour.RED, Colour.BLUE),
    "session_cookie": (Boolean, True, False),
    "secret": (Text, "revealed", "as well"),
}  # fmt: skip


@pytest.fixture
def models():
    class Base(DeclarativeBase):
        pass

    links = Table(
        "things_labels", Base.metadata,
        Column("thing_id", ForeignKey("things.id"), primary_key=True),
        Column("label_id", ForeignKey("labels.code"), primary_key=True),
    )  # fmt: skip

    class Label(Base):
        __tablename__ = "labels"
        code = mapped_column(String, primary_key=True)
        things = relationship("Thing", secondary=links, back_populates="labels")

    versions = iter(range(1, 100))
    columns = {name: mapped_column(kind, nullable=True) for name, (kind, *_) in COLUMNS.items()}
    Thing = type("Thing", (Base,), {
        "__tablename__": "things",
        "id": mapped_column(Integer, primary_key=True),
        "labels": relationship("Label", secondary=links, back_populates="things"),
        "version": mapped_column(Integer, default=lambda: next(versions), onupdate=lambda: next(versions)),
        **columns,
    })  # fmt: skip
    return Base, Thing, Label


@pytest.fixture
def recorded(shop, models, make_engine, audit):
    """Events of both kinds, of tables that are tracked in both ways: {"app": […], "trigger": […]}."""
    Base, Thing, Label = models
    Base.metadata.create_all(make_engine())
    for table in ("things", "labels", "things_labels"):
        options = TrackOptions(reveal=("secret",) if table == "things" else ())
        run(tracking.track(with_audit_log(), table, options, Redactor().is_secret), shop.owner)
    track(Thing, audit, reveal=["secret"])
    track(Label, audit)

    def read():
        found = defaultdict(list)
        for source, *event in shop.events("source, action, entity_id, changes"):
            found[source].append(tuple(event))
        return {source: sorted(events, key=str) for source, events in found.items()}

    return read


def assert_same(recorded):
    events = recorded()
    assert len(events["app"]) == len(events["trigger"])
    for ours, theirs in zip(events["app"], events["trigger"], strict=True):
        assert ours[:2] == theirs[:2]
        different = {
            name: (ours[2].get(name), theirs[2].get(name))
            for name in ours[2] | theirs[2]
            if ours[2].get(name) != theirs[2].get(name)
        }
        assert not different, ours[:2]
    return events["app"]


# Another time zone than the server's, which row tracking does not depend on.
ELSEWHERE = {"connect_args": {"options": "-c timezone=Asia/Kolkata"}}


def test_both_record_the_same(recorded, models, make_engine):
    _, Thing, Label = models
    with Session(make_engine(**ELSEWHERE)) as session:
        thing = Thing(id=1, **{name: first for name, (_, first, _) in COLUMNS.items()})
        session.add_all([thing, Thing(id=2), Label(code="a", things=[thing])])
        session.commit()
        for name in COLUMNS:
            getattr(thing, name)  # the old value is known
        assert thing.version
        for name, (*_, second) in COLUMNS.items():
            setattr(thing, name, second)
        thing.labels = [Label(code="b"), Label(code="c")]
        session.commit()
        session.refresh(thing)
        thing.labels.pop()
        for name in COLUMNS:
            setattr(thing, name, None)
        session.commit()
        session.refresh(thing)
        session.delete(thing)
        session.commit()
    events = assert_same(recorded)
    assert [action for action, *_ in events] == [
        *["labels.inserted"] * 3,
        *["things.deleted", "things.inserted", "things.inserted", "things.updated", "things.updated"],
        *["things_labels.deleted"] * 3,
        *["things_labels.inserted"] * 3,
    ]
    inserted = next(changes for action, key, changes in events if (action, key) == ("things.inserted", "1"))
    assert inserted.keys() == {"id", "version", *COLUMNS}
    assert inserted["price"] == [None, 1.01]
    assert inserted["api_key"] == [None, "[redacted]"]
    assert inserted["token"] == [None, "RED"]
    assert inserted["secret"] == [None, "revealed"]
    assert "private" not in str(events)


def test_asyncpg_records_the_same(recorded, models, shop):
    import asyncio  # noqa: PLC0415

    _, Thing, _ = models

    async def main():
        engine = create_async_engine(shop.url("asyncpg"))
        async with AsyncSession(engine) as session:
            names = COLUMNS.keys() - {
                "place",
                "words",
                "zoned_clock",
                "bits",
            }  # asyncpg takes no texts for them
            thing = Thing(id=1, **{name: COLUMNS[name][1] for name in names})
            session.add(thing)
            await session.commit()
        await engine.dispose()

    asyncio.run(main())
    assert_same(recorded)


def test_what_the_database_encrypts_is_redacted(shop, make_engine, audit):
    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id = mapped_column(Integer, primary_key=True)
        text = mapped_column(EncryptedByDatabase)

    Base.metadata.create_all(make_engine())
    track(Note, audit)
    with Session(make_engine()) as session:
        note = Note(id=1, text="private")
        session.add(note)
        session.commit()
        note.text = "more private"
        session.commit()
    assert shop.events("metadata ->> 'unreadable'") == [None, None]
    assert shop.events("changes") == [
        {"id": [None, 1], "text": [None, "[redacted]"]},
        {"text": ["[unknown]", "[redacted]"]},
    ]


def test_a_value_that_cannot_be_written_does_not_fail_the_flush(shop, make_engine, audit, monkeypatch):
    class Base(DeclarativeBase):
        pass

    class Price(Base):
        __tablename__ = "prices"
        id = mapped_column(Integer, primary_key=True)
        price = mapped_column(Numeric)

    Base.metadata.create_all(make_engine())
    track(Price, audit)
    monkeypatch.setattr("usersync.contrib.sqlalchemy.column_values._as_json", lambda _: func.gone())
    with Session(make_engine()) as session:
        session.add(Price(id=1, price=Decimal(1)))
        session.commit()
        assert session.get(Price, 1).price == 1
    assert shop.events("changes") == [{"id": [None, 1], "price": [None, "[unreadable]"]}]
