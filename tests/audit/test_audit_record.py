"""record(): the stored fields, and values that must never make it raise."""

from __future__ import annotations

import dataclasses
import json
import uuid
from contextlib import suppress
from dataclasses import FrozenInstanceError

import pytest

from usersync import AuditLog
from usersync.audit.event.fields import EventFields
from usersync.errors import ArgumentTypeError, ArgumentValueError


def test_an_event_is_stored_with_all_fields(log, store):
    user = str(uuid.uuid4())
    event_id = log.record(
        "product.created",
        entity=("product", 42),
        after={"name": "Bolt", "price": 3},
        actor_id=user,
        metadata={"shelf": 7},
        request_id="r-1",
        ip="203.0.113.9",
        user_agent="curl",
        occurred_at="2026-01-02T03:04:05",
    )
    assert log.flush()
    event = store.event()
    assert event["id"] == event_id
    assert event["action"] == "product.created"
    assert event["outcome"] == "succeeded"
    assert (event["actor_id"], event["actor_type"]) == (user, "user")
    assert (event["entity_type"], event["entity_id"]) == ("product", "42")
    assert event["changes"] == {"name": [None, "Bolt"], "price": [None, 3]}
    assert event["metadata"]["shelf"] == 7
    assert event["request_id"] == "r-1"
    assert event["ip"].startswith("203.0.113.9")
    assert event["user_agent"] == "curl"
    assert event["occurred_at"].startswith("2026-01-02T03:04:05")
    assert event["source"] == "app"


def test_the_id_is_a_uuid_of_version_7_and_ids_sort_by_time(offline):
    ids = [offline.record("a.b") for _ in range(200)]
    assert ids == sorted(ids)
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}


def test_an_unchanged_update_is_recorded_too(log, store):
    log.record("product.updated", before={"a": 1}, after={"a": 1})
    assert log.flush()
    assert store.event()["changes"] in (None, {})


def test_an_invalid_ip_address_does_not_affect_the_event(log, store):
    for ip in ("testclient", "10.0.0.1:8080", "[::1]:80", "fe80::1%eth0", "\xff"):
        log.record("a.b", ip=ip)
    assert log.flush()
    found = [(event["ip"], event["metadata"].get("ip_unreadable")) for event in store.events()]
    assert [ip and ip.split("/")[0] for ip, _ in found] == [None, "10.0.0.1", "::1", "fe80::1", None]
    assert found[0][1] == "testclient"
    assert log.stats().rejected == 0


def test_an_invalid_time_is_kept_in_the_metadata(log, store):
    log.record("a.b", occurred_at="yesterday")
    log.record("a.b", occurred_at=0)
    assert log.flush()
    first, second = store.events()
    assert first["metadata"]["occurred_at_unreadable"] == "yesterday"
    assert second["occurred_at"].startswith("1970-01-01T00:00:00")


def test_rejected_events_are_counted_and_do_not_block_others(log, store):
    log.record("a.b")
    log.record("a.b", actor_id=lambda: {"actor_type": "robot"})
    log.record("a.b")
    assert log.flush()
    stats = log.stats()
    assert (stats.accepted, stats.stored, stats.rejected, stats.waiting) == (3, 2, 1, 0)
    assert len(store.ids()) == 2


class Broken:
    """An object whose every operation raises."""

    def _fail(self, *_: object) -> object:
        raise RuntimeError("broken")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = _fail  # type: ignore[assignment]
    __getitem__ = __contains__ = __index__ = __int__ = __float__ = _fail  # type: ignore[assignment]

    def __getattr__(self, name: str) -> object:
        raise MemoryError

    @property
    def __class__(self):
        raise RuntimeError("broken")


class BrokenDict(dict):
    def items(self):
        raise MemoryError


class BrokenList(list):
    def __iter__(self):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError


def _endless_generator():
    value: list = []
    value.append(value)
    return value


VALUES_THAT_RAISE = [
    Broken(),
    Broken,
    BrokenDict(a=1),
    BrokenList([1]),
    _endless_generator(),
    object(),
    lambda: 1,
    (each for each in "abc"),
    float("nan"),
    10**5000,
    "\x00\ud800",
    b"\xff" * 1000,
    {Broken.__name__: Broken()},
    {1: 2, None: 3, (1, 2): 4, b"x": 5},
    ["x"] * 100_000,
    "x" * 10_000_000,
    NotImplemented,
    ...,
    True,
]

#: The fields of record() that hold values of the application.
VALUES = ("before", "after", "changes", "metadata")


def _holding(field, value):
    return {field: {"field": (value, value)} if field == "changes" else {"field": value}}


@pytest.mark.parametrize("field", VALUES)
def test_no_value_makes_record_raise(offline, field):
    for value in VALUES_THAT_RAISE:
        assert offline.record("a.b", **_holding(field, value)) is not None
        with offline.context(metadata={"field": value}):
            assert offline.record("a.b") is not None
    assert offline.stats().dropped == 0


@pytest.mark.parametrize("field", sorted(EventFields.__optional_keys__))
def test_arguments_whose_methods_raise_never_make_record_raise(offline, make_log, field):
    """The argument is either refused with an error that names the reason, or recorded."""
    lenient = make_log(None, strict=False)
    for value in (*VALUES_THAT_RAISE, Broken(), BrokenDict(a=1), Lazy()):
        try:
            assert offline.record("a.b", **{field: value}) is not None
            assert lenient.record("a.b", **{field: value}) is not None
        except (ArgumentTypeError, ArgumentValueError):
            assert lenient.record("a.b", **{field: value}) is None
    assert offline.stats().dropped == 0


class Lazy:
    """Like Django's SimpleLazyObject: reading any attribute evaluates the object, which raises."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("no database")


def test_the_database_stores_values_that_raise(log, store):
    for value in VALUES_THAT_RAISE:
        for field in VALUES:
            assert log.record("a.b", **_holding(field, value))
        for arguments in (
            {"action": value},
            *({"action": "a.b", field: value} for field in EventFields.__optional_keys__),
        ):
            with suppress(ArgumentTypeError, ArgumentValueError):
                log.record(**arguments)
    assert log.flush(60)
    rejects = store.owner.execute(
        "select reason, left(event::text, 300) from usersync.audit_rejects"
    ).fetchall()
    assert rejects == []
    stats = log.stats()
    assert (stats.rejected, stats.quarantined, stats.dropped) == (0, 0, 0)
    assert stats.stored == stats.accepted


def test_keyboard_interrupt_propagates(offline):
    class Interrupting:
        def items(self):
            raise KeyboardInterrupt

        keys = __getitem__ = __len__ = __iter__ = items

    from collections.abc import Mapping  # noqa: PLC0415

    Mapping.register(Interrupting)
    with pytest.raises(KeyboardInterrupt):
        offline.record("a.b", metadata={"x": Interrupting()})


def test_an_event_of_ten_megabytes_is_truncated_and_marked(log, store):
    log.record("a.b", metadata={f"k{n}": "x" * 10_000 for n in range(1000)}, after={"big": "y" * 1_000_000})
    assert log.flush()
    event = store.event()
    assert len(json.dumps(event)) < 300_000
    assert event["metadata"]["[cut]"].startswith("[cut: ")
    assert "sha256" in event["metadata"]["[cut]"]
    assert "[cut: 1000000 characters, sha256 " in event["changes"]["big"][1]


def test_stats_are_immutable_and_count_events(offline):
    offline.record("a.b")
    stats = offline.stats()
    assert (stats.accepted, stats.spooled, stats.waiting, stats.writer) == (1, 1, 1, "not started")
    assert stats.oldest_age is not None
    with pytest.raises(FrozenInstanceError):
        stats.accepted = 2


def test_events_after_close_are_dropped_and_counted(make_log, caplog):
    log = make_log(None)
    log.record("a.b")
    log.close(0)
    assert log.record("a.b") is None
    assert log.stats().dropped == 1
    assert "the log is closed" in caplog.text


def test_from_env_reads_the_connection_string_and_the_spool_directory(store, monkeypatch, tmp_path):
    monkeypatch.setenv("SUPABASE_DB_URL", store.dsn)
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("USERSYNC_KEEP_DELIVERED", "0")
    with AuditLog.from_env() as log:
        log.record("a.b")
        assert list((tmp_path / "here").glob("*/*.spool"))
        assert log.flush()
    assert len(store.ids()) == 1
    assert not list((tmp_path / "here").glob("*/*.spool"))


def test_events_for_two_databases_are_kept_apart(make_log, spool_dir):
    for name in ("one", "two"):
        log = make_log(None, project=None, spool_dir=spool_dir)
        other = AuditLog(f"postgresql://u@127.0.0.1:1/{name}", spool_dir=spool_dir)
        assert log._root != other._root
    one = AuditLog("postgresql://a:b@h/x", spool_dir=spool_dir)._root
    assert one == AuditLog("postgresql://a:c@h:5432/x", spool_dir=spool_dir)._root
    # Behind a regional pooler, the user name identifies the project.
    assert one != AuditLog("postgresql://c:b@h/x", spool_dir=spool_dir)._root


@dataclasses.dataclass
class User:
    id: int
    email: str = "ada@example.com"


def test_a_record_passed_as_an_id_gives_its_id(log, store):
    log.record("a.b", actor_id=User(7), entity=("user", {"pk": 8}))
    log.record("a.c", entity=("user", None))
    assert log.flush()
    first, second = store.events()
    assert (first["actor_id"], first["entity_id"]) == ("7", "8")
    assert (second["entity_type"], second["entity_id"]) == ("user", None)
