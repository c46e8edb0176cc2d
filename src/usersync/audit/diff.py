"""What changed, from what was before and what is after: ``{"field": [old, new]}``.

A pair cannot tell an absent field from one that is null, so going from one to the other is no change.
Whether a secret changed is kept, both of its values are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.audit.objects import class_name, fields_of
from usersync.audit.redaction import REDACTED
from usersync.audit.scalars import clean, cut
from usersync.audit.values import Json, Limits, encode, to_json

if TYPE_CHECKING:
    from usersync.audit.redaction import Redactor

_MAX_KEY = 200
_PAIR = 2


def difference(before: object, after: object, redactor: Redactor, limits: Limits) -> dict[str, Json]:
    """The fields in which two mappings or models differ. None stands for: there was, or is, nothing."""
    old, new = _fields(before, limits), _fields(after, limits)
    changes: dict[str, Json] = {}
    for name in old | new:
        # Compared with the secrets in, and stored without.
        pair = [to_json(side.get(name), None, limits) for side in (old, new)]
        if encode(pair[0]) != encode(pair[1]) or (name in new and before is None):
            changes[name] = _redacted(name, old.get(name), new.get(name), redactor, limits)
    return changes


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
    return [to_json(old, redactor, limits), to_json(new, redactor, limits)]


def _fields(value: object, limits: Limits) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        fields = fields_of(value)
        if fields is None:
            return {"value": value}
        found = list(fields.items())
    except Exception:  # noqa: BLE001 - the object's own code raised; say so in its place
        return {"value": f"[unreadable: {class_name(value)}]"}
    result = {_name(key, limits): item for key, item in found[: limits.items]}
    if len(found) > limits.items:
        result["[cut]"] = f"[cut: {len(found)} keys]"
    return result


def _name(key: object, limits: Limits) -> str:
    written = to_json(key, None, limits) if not isinstance(key, str) else key
    text = written if isinstance(written, str) else encode(written).decode()
    return cut(clean(text), _MAX_KEY)
