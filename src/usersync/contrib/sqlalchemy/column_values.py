"""What a column holds after a value was written to it: the same that row tracking records of the column.

An application's type may change a value on its way to the database, or encrypt it. So the value that is
recorded is the one that is bound. Where PostgreSQL stores or writes a type in its own way (numeric, interval,
array, …), PostgreSQL writes it, in one statement for all values of a flush.
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import case, cast, func, literal, select, types
from sqlalchemy.dialects.postgresql import OID, array
from sqlalchemy.types import TypeDecorator, TypeEngine

from usersync.config.redaction import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column
    from sqlalchemy.engine import Connection, Dialect

_log = logging.getLogger("usersync.sqlalchemy")

#: Types that PostgreSQL stores as they are bound, and JSON writes in one way.
_SAME = (types.Integer, types.Boolean, types.String, types.Uuid, types.LargeBinary, types.JSON)

#: Types with a lower oid are PostgreSQL's own.
_FIRST_OWN_TYPE = 16_384

#: The most values in one statement.
_BATCH = 1_000


class Written(NamedTuple):
    """A value that PostgreSQL writes."""

    value: Any
    type: TypeEngine[Any]


def held(column: Column[Any], value: Any, dialect: Dialect) -> Any:
    """The value that the column holds: a plain one, or one that ``write()`` converts.

    May raise any error of the application's own type.
    """
    kind: TypeEngine[Any] = column.type
    if value is not None and _binds_with_an_expression(kind):
        # The database encrypts it, for instance with pgcrypto.
        return REDACTED
    bound = value
    while isinstance(kind, TypeDecorator) and type(kind).bind_processor is TypeDecorator.bind_processor:
        if type(kind).process_bind_param is not TypeDecorator.process_bind_param:
            bound = kind.process_bind_param(bound, dialect)
        kind = kind.impl_instance
    if bound is None:
        return None
    if isinstance(kind, types.Enum):
        return _processed(kind.dialect_impl(dialect), bound, dialect)
    if isinstance(kind, TypeDecorator) and isinstance(kind.impl_instance, types.String | types.LargeBinary):
        # It replaces the processor, as PickleType does.
        return _processed(kind, bound, dialect)
    found = _plain(kind, bound)
    return Written(value, column.type) if found is None else found


def _processed(kind: TypeEngine[Any], value: Any, dialect: Dialect) -> Any:
    bind = kind.bind_processor(dialect)
    bound = bind(value) if bind is not None else value
    # psycopg wraps bytes.
    return getattr(bound, "obj", bound)


def _binds_with_an_expression(kind: TypeEngine[Any]) -> bool:
    own = type(kind).bind_expression
    if isinstance(kind, TypeDecorator):
        return own is not TypeDecorator.bind_expression or _binds_with_an_expression(kind.impl_instance)
    # SQLAlchemy's own types use an expression where the dialect needs a cast.
    return own is not TypeEngine.bind_expression and not type(kind).__module__.startswith("sqlalchemy.")


def _plain(kind: TypeEngine[Any], value: Any) -> Any:
    """The value if it is written in one way, else None."""
    if isinstance(kind, types.DateTime):
        return _moment(kind, value) if isinstance(value, datetime) else None
    if isinstance(kind, types.Date):
        return value if type(value) is date else None
    if isinstance(kind, types.CHAR):
        return value.rstrip(" ") if isinstance(value, str) else None
    return value if isinstance(kind, _SAME) else None


def _moment(kind: types.DateTime, value: datetime) -> str | None:
    """As ``to_json()`` writes it. None if PostgreSQL has to convert it: the value has a zone and the column
    has none, or the reverse.
    """
    if bool(kind.timezone) is (value.tzinfo is None) or getattr(kind, "precision", None) is not None:
        return None
    return _written_moment(value.astimezone(UTC) if kind.timezone else value)


def _written_moment(value: datetime) -> str:
    text = value.isoformat()
    if not value.microsecond:
        return text
    moment, dot, fraction = text.partition(".")
    return f"{moment}{dot}{fraction[:6].rstrip('0')}{fraction[6:]}"


def write(connection: Connection, values: Iterable[Written]) -> list[Any]:
    """Each value as its column holds it, as JSON. ``[unreadable]`` if PostgreSQL cannot convert it.

    Runs a statement in a savepoint; in autocommit, without a savepoint.
    """
    given = list(values)
    found: list[Any] = []
    for start in range(0, len(given), _BATCH):
        found += _written(connection, given[start : start + _BATCH])
    return found


def _written(connection: Connection, given: list[Written]) -> list[Any]:
    in_autocommit = getattr(connection.connection.dbapi_connection, "autocommit", False)
    texts: Any = [_as_json(cast(literal(each.value, each.type), each.type)) for each in given]
    try:
        with nullcontext() if in_autocommit else connection.begin_nested():
            row = connection.execute(select(array(texts))).scalar_one()
        return [_read(each.type, text) for each, text in zip(given, row, strict=True)]
    except Exception as error:  # noqa: BLE001 - the flush must not fail because of what is recorded of it
        if len(given) > 1:
            return [found for each in given for found in _written(connection, [each])]
        _log.warning("a value of type %s could not be recorded: %s", given[0].type, type(error).__name__)
        return ["[unreadable]"]


def _as_json(value: Any) -> Any:
    """As row tracking writes it: types that PostgreSQL does not have itself as their text."""
    built_in = cast(cast(func.pg_typeof(value), OID), types.BigInteger) < _FIRST_OWN_TYPE
    return cast(case((built_in, func.to_json(value)), else_=func.to_json(func.concat(value))), types.Text())


def _read(kind: TypeEngine[Any], text: str | None) -> Any:
    if text is None:
        return None
    found = json.loads(text, parse_float=_number)
    if isinstance(kind, types.DateTime) and kind.timezone and isinstance(found, str):
        # In the session's time zone.
        with suppress(ValueError):
            return _written_moment(datetime.fromisoformat(found).astimezone(UTC))
    return found


def _number(text: str) -> float | str:
    """A number with more digits than a float has stays a text."""
    found = float(text)
    return found if Decimal(repr(found)) == Decimal(text) else text
