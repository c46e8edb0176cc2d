"""``usersync explain``: prints the documentation of an error or a check, without a network.

It reads the documentation's pages. A wheel contains a copy; a checkout has them in ``docs``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, examples, output_options
from usersync.cli.text import bold, wrap
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from usersync.cli.output import View

PAGES = ("errors.md", "doctor.md")

_SECTION = re.compile(r"^## ((?:US|D)\d+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
#: Prefixes of paragraphs that are not wrapped.
_NOT_WRAPPED = ("```", "|", "    ")


@dataclass(frozen=True)
class ExplainView:
    """A section of a page."""

    code: str
    text: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        yield bold(self.code)
        for paragraph in self.text.split("\n\n"):
            yield ""
            if paragraph.startswith(_NOT_WRAPPED):
                yield from paragraph.splitlines()
            else:
                yield from wrap(" ".join(paragraph.split()), width)

    def data(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text}


@click.command(
    epilog=examples(
        ("usersync explain US301", "an error"),
        ("usersync explain D004", "a doctor check"),
    )
)
@click.argument("code")
@output_options
def explain(call: Call, code: str) -> View:  # noqa: ARG001 - every command has it
    """Explain an error (US301) or a doctor check (D004)."""
    wanted = code.strip().upper()
    known = sections()
    if wanted not in known:
        raise SettingsError(
            f"no error or check has the code {code!r}", hint=f"Codes: {', '.join(sorted(known))}."
        )
    return ExplainView(wanted, known[wanted])


def sections() -> dict[str, str]:
    """The sections of the pages by code, as plain text without links and emphasis."""
    pages = (_page(name).read_text("utf-8") for name in PAGES)
    return {code: _as_text(body) for page in pages for code, body in _SECTION.findall(page)}


def _page(name: str) -> Traversable:
    packaged = files("usersync.cli").joinpath("pages", name)
    return packaged if packaged.is_file() else Path(__file__).parents[3] / "docs" / name


def _as_text(body: str) -> str:
    text = _LINK.sub(r"\1", body.strip()).replace("**", "")
    return re.sub(r"^\*(.+)\*$", r"\1", text, flags=re.MULTILINE)
