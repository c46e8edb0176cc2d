"""Values of any type are converted to JSON that jsonb accepts."""

from __future__ import annotations

import ast
import dataclasses
import enum
import itertools
import json
import subprocess
import sys
import textwrap
import uuid
from collections import OrderedDict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersync.audit.event import values
from usersync.audit.event.values import Limits, plain_encode, to_json
from usersync.config.redaction import Redactor


@pytest.fixture(autouse=True, params=["orjson", "json"])
def _encoder(request, monkeypatch):
    """Run every test of this module with and without orjson."""
    if request.param == "json":
        monkeypatch.setattr(values, "encode", plain_encode)
    else:
        pytest.importorskip("orjson")


def encode(value):
    return values.encode(value)


def convert(value, **limits):
    return to_json(value, Redactor(), Limits(**limits))


class Colour(enum.Enum):
    RED = "red"
    BOX = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    password: str = "p"  # noqa: S105 - it is not to be found


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the plain form is common


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError


class ReprRaises:
    def __repr__(self):
        raise RuntimeError


class Attrs:
    __attrs_attrs__ = (dataclasses.fields(Point)[0],)
    x = 5


class Model:
    """Like a SQLAlchemy model: attributes that are not loaded must not be read."""

    __mapper__ = object()

    def __init__(self):
        self.id = 1
        self._sa_instance_state = object()

    @property
    def lazy(self):
        raise AssertionError("a query was sent")


CASES = [
    (None, None),
    (True, True),
    (7, 7),
    (2**63 - 1, 2**63 - 1),
    (2**64, "18446744073709551616"),
    (10**5000, "[integer of 16610 bits]"),
    (1.5, 1.5),
    (float("nan"), "NaN"),
    (float("-inf"), "-Infinity"),
    ("a\x00b", "a␀b"),
    ("a\ud800b", "a\ufffdb"),
    ("\U0001f600", "\U0001f600"),
    (Decimal("1.10"), "1.10"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05+00:00"),  # noqa: DTZ001 - that is what is tested
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T00:00:00+02:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(1, 2), "01:02:00"),
    (timedelta(days=1, microseconds=1), "PT86400.000001S"),
    (timedelta(seconds=-100), "PT-100S"),
    (b"\xff\x00", "[bytes: 2, base64 /wA=]"),
    (Colour.RED, "red"),
    (Colour.BOX, [1, 2]),
    (Level.LOW, 1),
    (Point(1), {"x": 1, "password": "[redacted]"}),
    (Pair(1, "b"), {"left": 1, "right": "b"}),
    ({2, 1}, [1, 2]),
    (deque([1]), [1]),
    (range(3), [0, 1, 2]),
    (OrderedDict(a=1), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({1: "a", None: "b", False: "c", (1, 2): "d"}, {"1": "a", "null": "b", "false": "c", "[1,2]": "d"}),
    ({"1": "a", 1: "b"}, {"1": "a", "1 (2)": "b"}),
    (Text("x"), "x"),
    (PurePosixPath("/tmp/x"), "/tmp/x"),  # noqa: S108 - only a text
    (ip_address("::1"), "::1"),
    (Attrs(), {"x": 5}),
    (Model(), {"id": 1}),
    (ReprRaises(), "[object: ReprRaises]"),
    (ValueError("secret"), "[object: ValueError]"),
    (len, "[object: builtin_function_or_method]"),
]


@pytest.mark.parametrize(
    ("value", "expected"), CASES, ids=[f"{n}-{type(value).__name__}" for n, (value, _) in enumerate(CASES)]
)
def test_values_are_converted(value, expected):
    assert convert(value) == expected


def test_a_pydantic_model_is_read_by_fields_and_its_secrets_stay_hidden():
    pydantic = pytest.importorskip("pydantic")

    class Account(pydantic.BaseModel):
        name: str
        key: pydantic.SecretStr
        born: date

    found = convert(Account(name="Ada", key="hush", born=date(1815, 12, 10)))
    assert found == {"name": "Ada", "key": "[redacted]", "born": "1815-12-10"}


def test_a_generator_is_not_consumed():
    numbers = (each for each in (1, 2))
    assert convert({"n": numbers}) == {"n": "[object: generator]"}
    assert list(numbers) == [1, 2]


def test_reference_cycles_are_truncated():
    value: dict = {"a": []}
    value["a"].append(value)
    assert convert(value) == {"a": ["[cycle]"]}


def test_the_same_value_twice_is_not_a_cycle():
    shared = [1]
    assert convert([shared, shared]) == [[1], [1]]


def test_depth_items_and_length_of_values_are_limited():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    assert "[too deep]" in encode(convert(deep, depth=3)).decode()
    assert convert(list(range(10)), items=3) == [0, 1, 2, "[cut: 10 items]"]
    assert convert({"a": 1, "b": 2}, items=1) == {"a": 1, "[cut]": "[cut: 2 keys]"}
    assert convert("abcdef", text=2).startswith(
        "ab… [cut: 6 characters, sha256 bef57ec7f53a6d40beb640a780a639c8"
    )
    wide = [[{"k": n} for n in range(900)] for _ in range(900)]
    assert len(encode(convert(wide))) < 1_000_000


def test_both_encoders_produce_the_same_json():
    value = convert({"a": [1, 1.5, None, True, "é\ud800"], "b": {"c": '\x00\n"'}})
    assert encode(value) == plain_encode(value)
    assert json.loads(encode(value)) == value


def test_without_orjson_the_standard_library_is_used(tmp_path):
    code = """
        import sys
        sys.modules["orjson"] = None
        from usersync import AuditLog
        from usersync.audit.event import values

        assert values.encode is values.plain_encode
        log = AuditLog.recording_only(spool_dir=sys.argv[1])
        assert log.record("a.b", metadata={"x": ["é", 1.5, None, b"y"], "token": "t"}, after={"n": 1})
        (entry,) = log._engine.intake.spool.read(1, 1)
        print(ascii(entry.payload.decode()))
        log.close(0)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    event = json.loads(ast.literal_eval(done.stdout))
    assert event["metadata"] == {"x": ["é", 1.5, None, "[bytes: 1, base64 eQ==]"], "token": "[redacted]"}
    assert event["changes"] == {"n": [None, 1]}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=40)
    | st.decimals()
    | st.uuids()
    | st.datetimes(timezones=st.sampled_from([None, UTC]))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.fractions()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Level.LOW, Point(1), object, len])
)
KEYS = st.text(st.characters(exclude_categories=())) | st.integers() | st.none() | st.binary(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(value=VALUES)
def test_any_value_survives_a_round_trip_through_json(value):
    converted = convert(value)
    assert json.loads(encode(converted)) == json.loads(plain_encode(converted)) == converted


@pytest.mark.slow
@pytest.mark.newest_server
@settings(max_examples=200)
@given(value=VALUES)
def test_jsonb_accepts_any_value(store, value):
    payload = encode({"value": convert(value)}).decode()
    assert store.owner.execute("select %s::jsonb is not null", (payload,)).fetchone() == (True,)


class Query:
    """Like a query set of an ORM. Counts how often it is evaluated."""

    def __init__(self):
        self.runs = 0

    def __len__(self):
        self.runs += 1
        return 3

    def __iter__(self):
        self.runs += 1
        return iter([1, 2, 3])

    def __getitem__(self, index):
        self.runs += 1
        return index


class Lazy:
    """Like a framework's lazy proxy: reading its class evaluates it."""

    loads = 0

    @property
    def __class__(self):
        type(self).loads += 1
        return dict


def test_lazy_values_are_not_evaluated():
    query = Query()
    assert convert({"query": query, "lazy": Lazy()}) == {"query": "[object: Query]", "lazy": "[object: Lazy]"}
    assert query.runs == 0
    assert Lazy.loads == 0


class EndlessList(list):
    def __iter__(self):
        return itertools.repeat(1)


@pytest.mark.parametrize(
    "value", [range(10**15), EndlessList(), [[b"x" * 10_000_000] * 1_000] * 1_000], ids=type
)
def test_an_endless_container_is_read_in_part(value):
    assert convert(value)


def test_a_small_set_is_sorted_and_a_large_one_is_truncated():
    assert convert({3, 1, 2}, items=3) == [1, 2, 3]
    assert convert({3, 1, 2}, items=2)[-1] == "[cut: 3 items]"


class Name(enum.StrEnum):
    PRICE = "price"


class Odd(datetime):
    def isoformat(self, *_):
        return 7


def test_subclasses_of_basic_types_are_converted():
    assert encode(convert({Name.PRICE: Text("x")})) == b'{"price":"x"}'
    assert convert(Odd(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00+00:00"
