"""What changed, from what was before and what is after: ``{"field": [old, new]}``.

A pair cannot tell an absent field from one that is null, so going from one to the other is no change.
Whether a secret changed is kept, both of its values are not.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from usersync.audit.objects import class_name, fields_of
from usersync.audit.redaction import REDACTED
from usersync.audit.scalars import clean, cut
from usersync.audit.values import Json, Limits, encode, to_json

if TYPE_CHECKING:
    from usersync.audit.redaction import Redactor

_MAX_KEY = 200
_PAIR = 2
_SCALARS = (str, int, float, bool, type(None))


def difference(before: object, after: object, redactor: Redactor, limits: Limits) -> dict[str, Json]:
    """The fields in which two mappings or models differ. None stands for: there was, or is, nothing."""
    old, new = _fields(before, limits), _fields(after, limits)
    return {
        name: _redacted(name, old.get(name), new.get(name), redactor, limits)
        for name in old | new
        if before is None or after is None or _differ(old.get(name), new.get(name), limits)
    }


def _differ(old: object, new: object, limits: Limits) -> bool:
    # As what they are stored as, because the values' own comparison may raise, return an array or query a
    # database; but with the secrets in.
    written = to_json(old, None, limits), to_json(new, None, limits)
    if all(isinstance(each, _SCALARS) for each in written):
        return written[0] != written[1] or type(written[0]) is not type(written[1])
    return encode(written[0]) != encode(written[1])


def stated(changes: object, redactor: Redactor, limits: Limits) -> dict[str, Json]:
    """Changes that the application states: ``{"field": (old, new)}``; one value alone is the new one."""
    result: dict[str, Json] = {}
    for name, value in _fields(changes, limits).items():
        is_pair = isinstance(value, list | tuple) and len(value) == _PAIR
        old, new = value if is_pair else (None, value)
        result[name] = _redacted(name, old, new, redactor, limits)
    return result


def _redacted(name: str, old: object, new: object, redactor: Redactor, limits: Limits) -> Json:
    if redactor.is_secret(name):
        return [None if old is None else REDACTED, None if new is None else REDACTED]
    # Most events say what was made: None, and a value.
    return [None if old is None else to_json(old, redactor, limits), to_json(new, redactor, limits)]


def _fields(value: object, limits: Limits) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        fields = value if type(value) is dict else fields_of(value)
        if fields is None:
            return {"value": value}
        found = list(islice(fields.items(), limits.items))
    except Exception:  # noqa: BLE001 - the object's own code raised; say so in its place
        return {"value": f"[unreadable: {class_name(value)}]"}
    result = {_name(key, limits): item for key, item in found}
    if len(found) == limits.items:
        result["[cut]"] = f"[cut: the first {limits.items} keys]"
    return result


def _name(key: object, limits: Limits) -> str:
    if type(key) is str and len(key) <= _MAX_KEY and key.isascii() and "\x00" not in key:
        return key
    written = to_json(key, None, limits) if not isinstance(key, str) else key
    text = written if isinstance(written, str) else encode(written).decode()
    return cut(clean(text), _MAX_KEY)
