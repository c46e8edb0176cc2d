"""``usersync explain``: what the documentation says of an error or a check, without a network.

The pages are those of the repository: a wheel carries a copy, and a checkout has them where they are written.
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
#: What a paragraph begins with whose lines are to stay as they are.
_KEPT = ("```", "|", "    ")


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
            if paragraph.startswith(_KEPT):
                yield from paragraph.splitlines()
            else:
                yield from wrap(" ".join(paragraph.split()), width)

    def data(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text}


@click.command(
    epilog=examples(
        ("usersync explain US301", "an error"),
        ("usersync explain D004", "a check of the doctor"),
    )
)
@click.argument("code")
@output_options
def explain(call: Call, code: str) -> View:  # noqa: ARG001 - the same for every command
    """Explain an error (US301) or a check of the doctor (D004)."""
    wanted = code.strip().upper()
    known = sections()
    if wanted not in known:
        raise SettingsError(
            f"no error or check has the code {code!r}", hint=f"There are {', '.join(sorted(known))}."
        )
    return ExplainView(wanted, known[wanted])


def sections() -> dict[str, str]:
    """What the pages say, by code, as text: links are words, and emphasis is left out."""
    pages = (_page(name).read_text("utf-8") for name in PAGES)
    return {code: _as_text(body) for page in pages for code, body in _SECTION.findall(page)}


def _page(name: str) -> Traversable:
    packaged = files("usersync.cli").joinpath("pages", name)
    return packaged if packaged.is_file() else Path(__file__).parents[3] / "docs" / name


def _as_text(body: str) -> str:
    text = _LINK.sub(r"\1", body.strip()).replace("**", "")
    return re.sub(r"^\*(.+)\*$", r"\1", text, flags=re.MULTILINE)
