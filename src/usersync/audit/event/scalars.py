"""Single values as JSON: text that PostgreSQL accepts, numbers without loss, times with a zone."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

Scalar = str | int | float | bool | None

_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_BITS = 63
_MAX_DIGITS_BITS = 4096
_MAX_BYTES = 256


def clean(text: str) -> str:
    """Text that jsonb accepts: NUL becomes ``␀``, half a surrogate pair becomes ``�``."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{SYMBOL FOR NULL}")
    return text if text.isascii() else _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def cut(text: str, limit: int) -> str:
    """``text``, or its first ``limit`` characters and a marker with the SHA-256 of the complete text."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:limit]}… [cut: {len(text)} characters, sha256 {digest}]"


def _text(value: str, limit: int) -> str:
    return cut(clean(value), limit)


def _integer(value: int, limit: int) -> Scalar:
    bits = value.bit_length()
    if bits <= _MAX_BITS:
        return value
    # As text: most JSON parsers would round it, and some reject it.
    return cut(str(value), limit) if bits <= _MAX_DIGITS_BITS else f"[integer of {bits} bits]"


def _float(value: float, _limit: int) -> Scalar:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _datetime(value: datetime, _limit: int) -> str:
    zoned = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.isoformat(zoned)


def _duration(value: timedelta, _limit: int) -> str:
    """ISO 8601 in seconds, which PostgreSQL accepts as an interval."""
    seconds = Decimal(value // timedelta(microseconds=1)).scaleb(-6)
    return f"PT{seconds.normalize():f}S"


def _bytes(value: bytes | bytearray | memoryview, _limit: int) -> str:
    content = bytes(value)
    if len(content) <= _MAX_BYTES:
        return f"[bytes: {len(content)}, base64 {base64.b64encode(content).decode()}]"
    return f"[bytes: {len(content)}, sha256 {hashlib.sha256(content).hexdigest()}]"


def _spelled(value: object, limit: int) -> str:
    return cut(clean(str(value)), limit)


def _day(value: date, _limit: int) -> str:
    return date.isoformat(value)


def _time(value: time, _limit: int) -> str:
    return time.isoformat(value)


def _same(value: Scalar, _limit: int) -> Scalar:
    return value


#: How to write a value of exactly this type, in at most the given number of characters.
SCALARS: dict[type, Callable[..., Scalar]] = {
    str: _text,
    int: _integer,
    bool: _same,
    type(None): _same,
    float: _float,
    Decimal: _spelled,
    Fraction: _spelled,
    UUID: _spelled,
    datetime: _datetime,
    date: _day,
    time: _time,
    timedelta: _duration,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}

#: A value of a subclass is written like the first of these base classes that matches. Some call the base
#: class's method directly, because the subclass may have overridden it with one that raises.
_BASES: tuple[tuple[type | tuple[type, ...], Callable[..., Scalar]], ...] = (
    (str, lambda value, limit: _text(str.__str__(value), limit)),
    (bool, _same),
    (int, lambda value, limit: _integer(int.__int__(value), limit)),
    (float, lambda value, limit: _float(float.__float__(value), limit)),
    (datetime, _datetime),
    (date, _day),
    (time, _time),
    (timedelta, _duration),
    ((bytes, bytearray), _bytes),
    ((Decimal, Fraction, UUID, PurePosixPath, PureWindowsPath), _spelled),
    (
        (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network),
        _spelled,
    ),
)


def scalar_writer(value: object) -> Callable[..., Scalar] | None:
    """Return the function that writes a value of a subclass of a scalar type; None if it is not a scalar."""
    return next((writer for bases, writer in _BASES if issubclass(type(value), bases)), None)
