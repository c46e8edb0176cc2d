"""Values and keys as TOML."""

from __future__ import annotations

import json
import re


def key(name: str) -> str:
    """A TOML key, in quotes if required."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def toml(value: object) -> str:
    """A TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key(name)} = {toml(each)}' for name, each in value.items())} }}"
    # JSON's escapes are valid in TOML. JSON does not escape DEL, but TOML requires it.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
