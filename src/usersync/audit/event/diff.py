"""The difference between two states of an entity: ``{"field": [old, new]}``.

A pair cannot distinguish an absent field from a null one, so a change from one to the other is not recorded.
For a secret, the fact that it changed is recorded, and neither value.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from usersync.audit.event.objects import PAIRS, attributes_of, class_name, fields_of, is_a
from usersync.audit.event.values import Json, Limits, encode, free_name, key_text, to_json
from usersync.config.redaction import REDACTED, Checked, kind_of

if TYPE_CHECKING:
    from usersync.config.redaction import Redactor

_PAIR = 2
_SCALARS = (str, int, float, bool, type(None))


def difference(before: object, after: object, redactor: Redactor, limits: Limits) -> dict[str, Json]:
    """The fields in which two mappings or models differ. None means that the entity did not exist."""
    keys: dict[str, str] = {}
    old, new = _fields(before, limits, keys), _fields(after, limits, keys)
    made_or_gone = before is None or after is None
    return {
        name: _pair(keys.get(name, name), old.get(name), new.get(name), redactor, limits)
        for name in old | new
        if made_or_gone or _differ(old.get(name), new.get(name), limits)
    }


def _differ(old: object, new: object, limits: Limits) -> bool:
    # Compares the stored form, because the values' own comparison may raise, return an array or query a
    # database. Secrets are not redacted yet, so that a changed secret is a difference.
    written = to_json(old, None, limits), to_json(new, None, limits)
    if all(isinstance(each, _SCALARS) for each in written):
        return written[0] != written[1] or type(written[0]) is not type(written[1])
    return encode(written[0]) != encode(written[1])


def from_pairs(changes: object, redactor: Redactor, limits: Limits) -> dict[str, Json]:
    """Changes that the application passes: ``{"field": (old, new)}``. A single value is the new one."""
    result: dict[str, Json] = {}
    keys: dict[str, str] = {}
    for name, value in _fields(changes, limits, keys).items():
        is_pair = is_a(value, PAIRS) and len(value) == _PAIR
        old, new = value if is_pair else (None, value)
        result[name] = _pair(keys.get(name, name), old, new, redactor, limits)
    return result


def _pair(key: str, old: object, new: object, redactor: Redactor, limits: Limits) -> Json:
    """Return both values. If one of them is a secret, return ``[redacted]`` for each that is not None."""
    if redactor.is_secret(key, kind_of(old)) or redactor.is_secret(key, kind_of(new)):
        return [None if old is None else REDACTED, None if new is None else REDACTED]
    old, new = (each.value if type(each) is Checked else each for each in (old, new))
    # Most events are creations: None, and a value.
    return [None if old is None else to_json(old, redactor, limits), to_json(new, redactor, limits)]


def _fields(value: object, limits: Limits, keys: dict[str, str]) -> dict[str, Any]:
    """The fields under their stored names. Adds the original key of each to ``keys``: cutting a key or making
    it unique must not hide that it names a secret.
    """
    if value is None:
        return {}
    try:
        fields = value if type(value) is dict else fields_of(value) or attributes_of(value)
        if fields is None:
            return {"value": value}
        found = list(islice(fields.items(), limits.items))
    except Exception:  # noqa: BLE001 - the object's own code raised: a placeholder says so
        return {"value": f"[unreadable: {class_name(value)}]"}
    result: dict[str, Any] = {}
    for key, item in found:
        given = key if type(key) is str else key_text(key)
        name = free_name(given, result)
        keys[name] = given
        result[name] = item
    if len(found) == limits.items:
        result["[cut]"] = f"[cut: the first {limits.items} keys]"
    return result
