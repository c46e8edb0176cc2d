"""The rules of ``[audit]`` that depend on an event's action: how long it is kept, and its severity."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usersync.config.mapping import did_you_mean
from usersync.config.periods import parse_period
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

SEVERITIES = ("info", "low", "medium", "high", "critical")

#: The key of the retention of all other actions.
DEFAULT = "default"
#: ``auth.login``, ``auth.*`` or ``auth.log*``. The dot tells an action from a mistyped ``default``.
_RULE = re.compile(r"[^*]+\.(\*|[^*]+\*?)")


def parse_retention(value: object, where: str) -> Mapping[str, str]:
    """How long events are kept, by action. Raises ``SettingsError``."""
    found = _by_action(value, where, 'default = "13mo", "auth.*" = "90d"')
    for action, text in found.items():
        try:
            parse_period(text).before(datetime.now(UTC))
        except (ValueError, OverflowError) as error:
            raise SettingsError(f"{where}.{action}: {error}") from None
    return found


def parse_severity(value: object, where: str) -> Mapping[str, str]:
    """The severity of events that have none, by action. Raises ``SettingsError``."""
    found = _by_action(value, where, '"auth.*" = "high"')
    for action, severity in found.items():
        if severity not in SEVERITIES:
            raise SettingsError(f"{where}.{action}: expected {', '.join(SEVERITIES)}, got {severity!r:.80}")
    return found


def _by_action(value: object, where: str, example: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: expected a table, as in: {example}")
    for action, given in value.items():
        if isinstance(given, dict):
            key = f"{action}.{next(iter(given), '*')}"
            raise SettingsError(
                f"{where}.{action}: expected a text, got a table",
                hint=f'TOML reads a dot as a table. Quote the action: "{key}" = "…"',
            )
        if not isinstance(given, str):
            raise SettingsError(f"{where}.{action}: expected a text, got {given!r:.80}")
        if action != DEFAULT and not _RULE.fullmatch(action):
            raise SettingsError(
                f"{where}: {action!r:.80} is neither {DEFAULT}, nor an action with a dot, nor a prefix",
                hint=did_you_mean(action, (DEFAULT, f"{action.rstrip('*.')}.*")),
            )
    return dict(value)


def most_specific_first(by_action: Mapping[str, str]) -> list[tuple[str, str]]:
    """The rules in the order in which they are tried: exact actions, then prefixes, the longest first."""
    given = [(action, value) for action, value in by_action.items() if action != DEFAULT]
    return sorted(given, key=lambda rule: (rule[0].endswith("*"), -len(rule[0]), rule[0]))


def value_of(by_action: Mapping[str, str], action: str) -> str | None:
    """The value for an action; None if no rule matches."""
    for pattern, value in most_specific_first(by_action):
        if action == pattern or (pattern.endswith("*") and action.startswith(pattern[:-1])):
            return value
    return by_action.get(DEFAULT)
