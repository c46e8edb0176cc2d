"""An extension of griffe: a comment that begins with ``#:`` above a field is the field's description."""

from __future__ import annotations

from typing import Any

import griffe


class FieldComments(griffe.Extension):  # type: ignore[misc]
    """Reads these comments, which griffe passes over."""

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for each attribute."""
        if attr.docstring is not None or attr.lineno is None:
            return
        lines = attr.lines_collection[attr.filepath]
        said: list[str] = []
        number = attr.lineno - 2
        while number >= 0 and (line := lines[number].strip()).startswith("#:"):
            said.insert(0, line.removeprefix("#:").strip())
            number -= 1
        if said:
            attr.docstring = griffe.Docstring(" ".join(said), parent=attr)
