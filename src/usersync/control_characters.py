"""The characters that no output shows as they are: they are invisible, or change the text around them."""

from __future__ import annotations

import re

# Control characters, line separators, invisible characters, changes of the text direction, tags.
BEYOND_ASCII = (
    "\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f"
)
CONTROL = re.compile(f"[\x00-\x1f{BEYOND_ASCII}]")
