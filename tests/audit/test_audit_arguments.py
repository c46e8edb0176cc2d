"""Invalid arguments raise at once, in every method alike. Entities may be given in several forms."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import uuid
from collections import UserDict
from contextlib import nullcontext
from types import SimpleNamespace

import psycopg
import pytest

from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError

pytestmark = pytest.mark.newest_server


class Widget:
    """An object without a table and without an id."""


@dataclasses.dataclass
class Product:
    id: int | None
    name: str = "Bolt"


#: Invalid fields of record(), record_in() and prepare(), the error and a part of its message.
WRONG_EVENTS = [
    ({"entitty": ("product", 1)}, TypeError, "no field 'entitty'"),
    ({"tenant": "t"}, TypeError, "no field 'tenant'"),
    ({"entity": "product"}, TypeError, "'product' has no type and id"),
    ({"entity": "product/"}, TypeError, "no type and id"),
    ({"entity": ("product",)}, TypeError, "a type and an id"),
    ({"entity": ("product", 1, 2)}, TypeError, "a type and an id"),
    ({"entity": (9, "product")}, TypeError, "a type and an id"),
    ({"entity": ("product", Widget())}, TypeError, "Widget is not an id"),
    ({"entity": Widget()}, TypeError, "Widget has no table and no id"),
    ({"entity": Widget}, TypeError, "no table and no id"),
    ({"entity": {"id": 9}}, TypeError, "dict has no table"),
    ({"entity": 9}, TypeError, "int has no table"),
    ({"changes": {"stock": {"old": 1, "new": 2}}}, TypeError, "a pair of old and new value, not dict"),
    ({"changes": {"stock": 2}}, TypeError, "a pair of old and new value, not int"),
    ({"changes": {"stock": (1, 2, 3)}}, TypeError, "a pair"),
    ({"changes": {"stock": "ab"}}, TypeError, "a pair"),
    ({"changes": [("stock", 1, 2)]}, TypeError, "a mapping, not list"),
    ({"changes": {Widget(): (1, 2)}}, TypeError, "names of fields, not Widget"),
    ({"before": 1}, TypeError, "a mapping or a model, not int"),
    ({"after": [Product(1)]}, TypeError, "a mapping or a model, not list"),
    ({"outcome": "denid"}, ValueError, "'succeeded', 'failed', 'denied', not 'denid'"),
    ({"outcome": False}, TypeError, "one of .*, not bool"),
    ({"occurred_at": ["2026-01-01"]}, TypeError, "a datetime, not list"),
]

#: Invalid fields of context(), new_context() and amend_context(), which are also invalid in all other
#: methods.
WRONG_FIELDS = [
    ({"actorid": 5}, TypeError, "no field 'actorid'"),
    ({"actor_id": Widget()}, TypeError, "an id, or an object with an id, not Widget"),
    ({"actor_id": [5]}, TypeError, "not list"),
    ({"actor_id": True}, TypeError, "not bool"),
    ({"actor_type": "admin"}, ValueError, "'user', 'service', 'system', 'anonymous', not 'admin'"),
    ({"user_id": 5}, TypeError, "a UUID, or an object with an id, not int"),
    ({"request_id": {"id": 5}}, TypeError, "not dict"),
    ({"ip": 5}, TypeError, "an IP address, not int"),
    ({"user_agent": SimpleNamespace(string="curl")}, TypeError, "a text, not SimpleNamespace"),
    ({"metadata": "note"}, TypeError, "a mapping, not str"),
    ({"metadata": [("note", 1)]}, TypeError, "a mapping, not list"),
]


def entries(log, connection):
    return {
        "record": log.record,
        "record_in": functools.partial(log.record_in, connection),
        "record_in, required": functools.partial(log.record_in, connection, required=True),
        "prepare": log.prepare,
        "action": log.action,
        "context": lambda _, **fields: log.context(**fields),
        "new_context": lambda _, **fields: log.new_context(**fields),
        "amend_context": lambda _, **fields: log.amend_context(**fields),
    }


def test_invalid_arguments_raise_in_every_method(offline, store):
    with psycopg.connect(store.dsn) as connection:
        methods = entries(offline, connection)
        for fields, error, message in WRONG_EVENTS + WRONG_FIELDS:
            for name, method in methods.items():
                expected = error, message
                if name.endswith("context") and (fields, error, message) in WRONG_EVENTS:
                    expected = TypeError, f"no field '{next(iter(fields))}'"
                if name == "action" and fields.keys() & {"before", "after"}:
                    expected = TypeError, "no field"
                with pytest.raises(expected[0], match=expected[1]) as raised:
                    method("a.b", **fields)
                assert isinstance(raised.value, SettingsError), name
                assert raised.value.code in {"US105", "US106"}
        for name in ("record", "record_in", "prepare", "action"):
            with pytest.raises(ArgumentTypeError, match="action: expected a text, not int"):
                methods[name](5)
            with pytest.raises(ArgumentValueError, match="action: the text is empty"):
                methods[name]("")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert (offline.stats().accepted, offline.stats().dropped) == (0, 0)
    assert store.ids() == []


def test_the_errors_for_invalid_arguments_show_a_valid_call(offline):
    with pytest.raises(TypeError) as raised:
        offline.record("a.b", changes={"stock": {"old": 1, "new": 2}})
    assert '{"stock": (10, 7)}' in raised.value.hint
    # A traceback shows the hint.
    assert raised.value.__notes__ == [f"Hint: {raised.value.hint}"]
    with pytest.raises(TypeError) as raised:
        offline.record("a.b", entitty=1)
    assert "Did you mean 'entity'?" in raised.value.hint
    assert "metadata={…}" in raised.value.hint
    with pytest.raises(TypeError) as raised:
        offline.record("a.b", entity="product")
    assert '("product", 42)' in raised.value.hint


def test_without_strict_invalid_calls_are_counted_as_dropped_events(make_log, store, caplog):
    log = make_log(store.dsn, strict=False)
    with psycopg.connect(store.dsn) as connection:
        assert log.record("a.b", entitty=1) is None
        assert log.record_in(connection, "a.b", outcome="denid") is None
        spoilt = log.prepare("a.b", outcome="denid")
        assert log.record_prepared(spoilt) is None
        assert log.record_prepared_in(connection, [spoilt]) == 0
    with log.action("a.b", entitty=1):
        pass
    with log.action("a.b") as event:
        event.outcome = "denid"
    assert log.stats().dropped == 5
    assert "no field 'entitty'" in caplog.text
    with log.context(actorid=5, request_id="r"):
        assert log.record("a.b")
    assert log.stats().dropped == 6
    assert log.flush()
    event = store.event()
    assert (event["request_id"], event["metadata"]) == ("r", {})


def test_an_action_can_be_denied_and_can_record_changes(log, store):
    with log.action("first.done", outcome="denied"):
        pass
    with pytest.raises(LookupError), log.action("second.done", outcome="denied"):
        raise LookupError
    with log.action("third.done", changes={"a": (1, 2)}) as event:
        event.change("a", 2, 3)
        event.change("b", 0, 1)
    assert log.flush()
    first, second, third = store.events()
    assert (first["outcome"], first["metadata"]) == ("denied", {})
    assert (second["outcome"], second["metadata"]) == ("denied", {"error": "LookupError"})
    assert (third["outcome"], third["changes"]) == ("succeeded", {"a": [1, 3], "b": [0, 1]})


def test_the_attributes_of_an_action_are_checked(offline):
    with offline.action("a.b") as event:
        with pytest.raises(AttributeError):
            event.outcom = "denied"
        with pytest.raises(AttributeError):
            event.id = "mine"
        with pytest.raises(ValueError, match="'denid'"):
            event.outcome = "denid"
        with pytest.raises(TypeError, match="a mapping, not str"):
            event.metadata = "note"
        with pytest.raises(TypeError, match="a mapping, not int"):
            event.change(5, 1, 2)
        event.metadata = {"note": 1}
        event.outcome = None
    assert event.id


def test_fields_without_a_fixed_type_accept_any_value(offline):
    found = [
        {"metadata": UserDict(a=1), "occurred_at": 0, "request_id": uuid.uuid4(), "ip": "unknown"},
        {"metadata": Product(1), "actor_id": Product(1), "user_id": {"id": str(uuid.uuid4())}},
        {"before": Product(1), "after": Product(2), "actor_id": lambda: "ada"},
        {"changes": {"a": [1, 2], "b": ({}, Widget())}, "entity": ("product", None)},
    ]
    for event in found:
        assert offline.record("a.b", **event)
    assert offline.record("a.b", **dict.fromkeys(found[0]))


def test_an_event_with_an_invalid_user_id_is_stored(log, store):
    log.record("a.b", user_id="42")
    assert log.flush()
    event = store.event()
    assert (event["user_id"], event["metadata"]) == (None, {"user_id_unreadable": "42"})
    assert log.stats().rejected == 0


def entity_recorded(log, given):
    payload = json.loads(log.prepare("a.b", entity=given).payload)
    return payload["entity_type"], payload.get("entity_id")


def test_an_entity_may_be_a_text_a_pair_or_an_object(offline):
    key = uuid.uuid4()
    named = {
        ("product", 42): ("product", "42"),
        ("product", key): ("product", str(key)),
        "product/42": ("product", "42"),
        "product/a/b": ("product", "a/b"),
        ("line", (42, 1)): ("line", "[42, 1]"),
        ("line", (42, None)): ("line", None),
    }
    for given, expected in named.items():
        assert entity_recorded(offline, given) == expected
    # Objects without a table have the name of their class.
    assert entity_recorded(offline, Product(9)) == ("Product", "9")
    assert entity_recorded(offline, Product(None)) == ("Product", None)


def test_an_entity_may_be_a_sqlalchemy_object(offline):
    pytest.importorskip("sqlalchemy")
    from sqlalchemy import ForeignKey, Integer, Text, create_engine  # noqa: PLC0415
    from sqlalchemy.orm import DeclarativeBase, Session, mapped_column  # noqa: PLC0415

    class Base(DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = "items"
        number = mapped_column(Integer, primary_key=True)
        name = mapped_column(Text)

    class Part(Item):
        __tablename__ = "parts"
        number = mapped_column(ForeignKey("items.number"), primary_key=True)

    class Line(Base):
        __tablename__ = "lines"
        __table_args__ = {"schema": "shop"}  # noqa: RUF012 - as in the application
        order = mapped_column("order_id", Integer, primary_key=True)
        place = mapped_column(Text, primary_key=True)

    engine = create_engine("sqlite://", execution_options={"schema_translate_map": {"shop": None}})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        item, part = Item(name="Bolt"), Part(name="Nut")
        assert entity_recorded(offline, item) == ("items", None)
        session.add_all([item, part])
        with offline.action("item.created", entity=item):
            session.commit()
        # Committed objects are expired: their key is known without a query.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "execute", None)
            patch.setattr(session, "_autobegin_t", None)
            assert entity_recorded(offline, item) == ("items", "1")
            assert entity_recorded(offline, part) == ("parts", "2")
        assert entity_recorded(offline, Line(order=42, place="ä")) == ("shop.lines", '[42, "ä"]')
        assert entity_recorded(offline, Line(order=42)) == ("shop.lines", None)


def test_an_entity_may_be_a_django_model(offline):
    pytest.importorskip("django")
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured:
        settings.configure(USE_TZ=True)
    import django  # noqa: PLC0415

    django.setup()
    from django.db import models  # noqa: PLC0415
    from django.utils.functional import SimpleLazyObject  # noqa: PLC0415

    class Article(models.Model):  # noqa: DJ008 - never shown
        slug = models.CharField(primary_key=True, default=None)

        class Meta:
            app_label = "arguments"
            db_table = '"shop"."article"'

    assert entity_recorded(offline, Article(slug="bolt")) == ("shop.article", "bolt")
    assert entity_recorded(offline, Article()) == ("shop.article", None)
    # Deferred fields are not loaded for an event.
    for field in ("actor_id", "entity"):
        with pytest.raises(TypeError, match="SimpleLazyObject"):
            offline.record("a.b", **{field: SimpleLazyObject(lambda: pytest.fail("loaded"))})


def test_a_context_works_with_async_with(log, store):
    async def main():
        async with log.context(actor_id="ada"), log.new_context(request_id="r"):
            log.record("a.b")
        assert await log.aflush()

    asyncio.run(main())
    event = store.event()
    assert (event["actor_id"], event["request_id"]) == (None, "r")


def test_a_log_works_with_async_with(make_log, store):
    async def main():
        async with make_log(store.dsn) as log:
            assert log.record("a.b")
            ticks = asyncio.create_task(asyncio.sleep(0))
            assert await log.aflush()
            assert ticks.done(), "the event loop was blocked"
        assert log.record("a.b") is None
        assert await log.aclose()

    asyncio.run(main())
    assert len(store.ids()) == 1


def test_an_invalid_call_does_not_change_the_context(offline):
    with offline.context(actor_id="ada"):
        with pytest.raises(TypeError), offline.context(actorid="bob"):
            pass
        payload = json.loads(offline.prepare("a.b").payload)
    assert payload["actor_id"] == "ada"
    with nullcontext():
        assert "actor_id" not in json.loads(offline.prepare("a.b").payload)
