"""The characters that no output shows as they are: they are invisible, or change the text around them."""

from __future__ import annotations

import json
import re

# Control characters, line separators, invisible characters, changes of the text direction, tags.
BEYOND_ASCII = (
    "\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f"
)
CONTROL = re.compile(f"[\x00-\x1f{BEYOND_ASCII}]")
_IN_JSON = re.compile(f"[{BEYOND_ASCII}]")


def inert(document: str) -> str:
    """JSON with all control characters escaped, except its own line breaks."""
    return document if document.isascii() else _IN_JSON.sub(_escaped, document)


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
