"""``usersync explain``: prints the documentation of an error, a check or a setting, without a network.

It reads the documentation's pages. A wheel contains a copy; a checkout has them in ``docs``.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, examples, output_options
from usersync.cli.text import bold, wrap
from usersync.config.audit_columns import AUDIT_KEYS
from usersync.config.retired import MOVED, RETIRED
from usersync.config.settings import Settings
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from usersync.cli.output import View

PAGES = ("errors.md", "doctor.md")

#: The prefix of the settings of the section ``[audit]``.
_AUDIT = "audit."

_SECTION = re.compile(r"^###? ((?:US|D)\d+)\n(.*?)(?=^###? |\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
#: Prefixes of paragraphs that are not wrapped.
_NOT_WRAPPED = ("```", "|", "    ")


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    settings = (name.removeprefix(_AUDIT) for name in setting_texts())
    names = dict.fromkeys((*sections(), *settings))
    return [name for name in names if name.lower().startswith(incomplete.lower())]


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
        ("usersync explain on_delete", "a setting"),
    )
)
@click.argument("code", shell_complete=_complete)
@output_options
def explain(call: Call, code: str) -> View:  # noqa: ARG001 - every command has it
    """Explain an error (US301), a doctor check (D004) or a setting (on_delete)."""
    known, settings = sections(), setting_texts()
    wanted = code.strip()
    if (upper := wanted.upper()) in known:
        return ExplainView(upper, known[upper])
    every_setting = settings | _former_texts()
    # As it is written: [audit] table, columns.email. A setting of [audit] is found by its last name, too.
    first, *rest = re.sub(r"[.\[\]=\s]+", " ", wanted.lower()).split() or [""]
    for setting in (".".join((first, *rest[:1])), first, _AUDIT + first):
        if setting in every_setting:
            return ExplainView(setting, every_setting[setting])
    near = difflib.get_close_matches(wanted, (*known, *settings), n=1)
    every = f"Codes: {', '.join(sorted(known))}. Settings: {', '.join(settings)}."
    raise SettingsError(
        f"no error, check or setting has the name {code!r}",
        hint=f"Did you mean {near[0]!r}?" if near else every,
    )


def setting_texts() -> dict[str, str]:
    """The documentation of each setting by its name, as plain text."""
    defaults = Settings().describe()
    texts = {
        each.name: f"{_as_text(each.metadata['doc'])}\n\nDefault: {json.dumps(defaults[each.name])}"
        for each in fields(Settings)
        if each.name not in {"columns", "audit"}
    }
    texts |= {name: _as_text(_DOCS[name]) for name in ("columns", "audit")}
    return texts | {f"{_AUDIT}{name}": _as_text(doc) for name, doc in AUDIT_KEYS.items()}


def _former_texts() -> dict[str, str]:
    """What became of the settings of earlier releases."""
    texts = {name: f"{name} has no effect any more: {why}." for name, why in RETIRED.items()}
    return texts | {name: f"It is now [{section}] {key}." for name, (section, key) in MOVED.items()}


_DOCS = {each.name: each.metadata["doc"] for each in fields(Settings)}


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
