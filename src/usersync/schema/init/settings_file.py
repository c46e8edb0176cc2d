"""A proposal as ``usersync.toml``, with a comment for each setting that needs an explanation."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Any

from usersync.config.settings import Settings
from usersync.schema.init.columns import left_out
from usersync.schema.init.table_choice import shown
from usersync.schema.init.toml import key, toml
from usersync.schema.third_party_triggers import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.schema.init import Proposal
    from usersync.schema.init.columns import Proposed
    from usersync.schema.init.tables import Tables

_WIDTH = 100

#: The comment if no audit log is requested.
NO_LOG = "No audit log is created. To create one, run: usersync audit enable"

#: The comment that offers events of users.
USER_EVENTS = (
    "To record in the log what becomes of users (user.created, user.updated, user.deleted), remove the # of "
    "the next line."
)


def settings_text(proposal: Proposal) -> str:
    """The text of the file, which parses to the settings of the proposal."""
    return "\n".join(_lines(proposal)) + "\n"


def question_text(tables: Tables, source: TableName) -> str:
    """A file that asks for the users table. Its settings are invalid until the question is answered."""
    lines = [
        *comment(f"QUESTION: {tables_question(tables, source)}"),
        *comment("To answer, run one of these commands, which writes this file again:"),
    ]
    for each in tables.choices:
        lines += [f"#   {inert(answer(each.table))}", *comment(shown(each), indent="      ")]
    if tables.new:
        lines += [f"#   {answer(tables.new)}", *comment("usersync creates this table.", indent="      ")]
    if source != Settings().source_table:
        lines += ["", f"source_table = {toml(str(source))}"]
    return "\n".join([*lines, "", 'users_table = ""', ""])


def answer(table: TableName) -> str:
    """The command that chooses this table."""
    return f"usersync init --force --table {shlex.quote(str(table))}"


def tables_question(tables: Tables, source: TableName) -> str:
    """Why usersync does not choose, in a sentence or two."""
    able = [str(each.table) for each in tables.choices if each.is_proposable]
    if len(able) > 1:
        return f"Which table holds your users? The evidence does not decide between {listed(tuple(able))}."
    return f"Which table holds your users? No table is known to have a row for each user of {source}."


def _lines(proposal: Proposal) -> Iterator[str]:
    data = proposal.data
    yield from comment("Proposed by usersync init from the contents of the database. Change it as needed.")
    yield from comment("usersync plan shows the resulting changes; docs/settings.md explains all settings.")
    for line in (*map(str, proposal.asked), *proposal.questions, *proposal.decisions):
        yield from comment(f"DECIDE: {line}")
    for line in proposal.notes:
        yield from comment(line)
    yield ""
    for name, value in data.items():
        if name not in {"columns", "audit"}:
            yield from comment(proposal.remarks.get(name, ""))
            yield f"{key(name)} = {toml(value)}"
            yield ""
    yield from _audit(data.get("audit", {}), proposal.remarks.get("audit", ""))
    yield from comment(
        'owner = "app": usersync fills the column when it creates a row, and never changes it again. The '
        'same holds for a column with "value" or "expression", unless it has owner = "auth". '
        "Every other column is kept equal to the auth server's."
    )
    yield "[columns]"
    for column in proposal.columns:
        yield from _column(column)
    for why, names in left_out(proposal.columns).items():
        yield from comment(f"Left out ({why}): {', '.join(names)}")
    could = [each for each in proposal.columns if each.is_left_out and each.suggestion]
    if could:
        yield from comment(
            "These columns could be mapped. They are not, because today's trigger does not write them:"
        )
        for each in could:
            yield f"# {inert(key(each.name))} = {entry(each.suggestion or {})}"


def _audit(section: Mapping[str, Any], remark: str) -> Iterator[str]:
    if not section:
        return
    if section.get("enabled") is False:
        yield from comment(NO_LOG)
    yield from comment(remark)
    yield "[audit]"
    yield from (f"{key(name)} = {toml(value)}" for name, value in section.items())
    if section.get("enabled") and "user_events" not in section:
        yield from comment(USER_EVENTS)
        yield "# user_events = true"
    yield ""


def _column(column: Proposed) -> Iterator[str]:
    if column.decide:
        yield from comment(f"DECIDE: {column.name}: {column.decide}.")
    if column.entry is not None:
        line = f"{key(column.name)} = {entry(column.entry)}"
        why = f"  # {inert(column.why)}" if column.why else ""
        if len(line + why) > _WIDTH:
            yield from comment(column.why)
            why = ""
        yield line + why
    elif column.decide and column.suggestion is not None:
        yield f"# {inert(key(column.name))} = {entry(column.suggestion)}"


def comment(text: str, *, indent: str = "") -> Iterator[str]:
    """The text as lines of a comment; none for an empty text."""
    wrapped = textwrap.wrap(
        inert(text.strip()),
        _WIDTH - 2,
        break_long_words=False,
        break_on_hyphens=False,
        initial_indent=indent,
        subsequent_indent=indent,
    )
    yield from (f"# {line}" for line in wrapped)


def inert(text: str) -> str:
    """The text with non-printable characters replaced, so that it cannot end the comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def entry(options: Mapping[str, Any]) -> str:
    """The shortest TOML for a column."""
    if "from" not in options:
        return toml(options)
    sources = options["from"]
    if isinstance(sources, list) and len(sources) == 1:
        sources = sources[0]
    if len(options) == 1:
        return toml(sources)
    return toml({**options, "from": sources})
