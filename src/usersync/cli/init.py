"""``usersync init``: inspects a database, explains it, and writes settings for it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usersync.cli.init_view import InitView, QuestionView, choice_lines, question_lines
from usersync.cli.options import Call, common_options, examples, stored_settings
from usersync.cli.output import can_ask
from usersync.cli.text import wrap
from usersync.config.mapping import TableName, parse_name
from usersync.config.settings import FILE_NAME, Settings
from usersync.core.audit_log import has_log
from usersync.errors import SettingsError
from usersync.schema.init import Choice, look_for_tables, propose
from usersync.schema.init.settings_file import question_text, settings_text
from usersync.schema.init.trial_evidence import trigger_names

if TYPE_CHECKING:
    from usersync.cli.output import View
    from usersync.schema.init import Proposal, Tables
    from usersync.schema.init.question import Answer
    from usersync.schema.trial.observation import Trial


@click.command(
    epilog=examples(
        ("usersync init", "explains the database, and writes the file"),
        ("usersync init --stdout", "prints the file instead"),
        ("usersync init --yes", "for scripts, without questions"),
        ("usersync init --table app.people", "names the users table"),
    )
)
@click.option(
    "--table",
    metavar="NAME",
    help="The application's users table. Default: the table that contains the ids of auth users.",
)
@click.option("--yes", is_flag=True, help="Ask nothing. Open questions are written to the file; exit code 1.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--no-trial",
    is_flag=True,
    help="Read the triggers instead of trying them. Writes nothing, not even in a transaction that is rolled "
    "back.",
)
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the file instead of writing it.")
@common_options
def init(
    call: Call, *, table: str | None, yes: bool, force: bool, no_trial: bool, to_stdout: bool
) -> View | None:
    """Inspect the database, and write usersync.toml.

    Finds the users table (by foreign keys, values and triggers on auth.users) and the source of each of its
    columns. Shows which constraints could refuse a user, which triggers run on a sign-up already, and which
    tables refer to users. Changes nothing in the database. If the application has triggers on auth.users,
    tries the auth server's requests, each in a transaction that is rolled back. --config names another
    file to write.

    Exit code 1 if a question remains that a person has to decide. The file then has it as a comment.
    """
    path = call.config or Path(FILE_NAME)
    asks = not yes and not call.output.as_json and can_ask()
    writes = not to_stdout
    if writes and path.exists() and not force and not asks:
        raise SettingsError(
            f"{path} already exists", hint="--force overwrites it. --stdout prints the settings instead."
        )
    named = parse_name(table, "--table") if table else None
    source = _source_table(call, path, force=force)
    trial = _try(call, source) if not no_trial else None
    tables = call.run(look_for_tables(source, named, trial))
    if named is None and tables.is_question:
        if not asks:
            return _write_question(call, tables, source, path if writes else None)
        chosen = _ask(call, tables, source)
    else:
        chosen = tables.choose(named)
    wants_log = asks and _asks_for_log(call)
    proposed = partial(propose, source, chosen, trial, wants_log=wants_log, tries_writes=not no_trial)
    proposal = call.run(proposed())
    if asks and (answers := _ask_settings(call, proposal)):
        proposal = call.run(proposed(answers))
    text = settings_text(proposal)
    others = tuple(each.table for each in tables.choices if each.table != proposal.settings.users_table)
    view = InitView(proposal, text, call.target, others, path if writes else None, _shadowed(path))
    if to_stdout and not call.output.as_json:
        call.output.tell(*view.lines(call.output.width))
        call.output.raw(text)
        return click.get_current_context().exit(view.exit_code)
    if writes:
        call.output.say(*view.explanation(call.output.width))
        if path.exists() and not force:
            call.ask(f"Overwrite {path}?")
        _write(path, text)
        call.output.say(*view.conclusion())
    return view if call.output.as_json else click.get_current_context().exit(view.exit_code)


def _asks_for_log(call: Call) -> bool:
    """Whether to create an audit log. Nothing is asked if a log exists."""
    stored = call.run(stored_settings(Settings()))
    if not stored.audit.is_own or call.run(has_log(stored)):
        return False
    call.output.tell(
        *wrap(
            "An audit log records who did what: in your code with usersync.AuditLog, or each change of a "
            "table with usersync audit track. It can be created later: usersync audit enable",
            call.output.width,
        )
    )
    return call.output.confirm(f"Create an audit log ({stored.audit_table})?")


def _try(call: Call, source: TableName) -> Trial | None:
    """The trial of the application's triggers on the auth server's table. None if there are no triggers."""
    names = call.run(trigger_names(source))
    if not names:
        return None
    from usersync.schema.trial.observer import observe  # noqa: PLC0415 - a driver, which --help does not need

    call.output.tell(f"Trying the auth server's flows on {call.target}; each is rolled back.")
    with call.connection() as connection:
        return observe(connection, replace(Settings(), source_table=source))


def _source_table(call: Call, path: Path, *, force: bool) -> TableName:
    """The auth server's table, from the existing settings file."""
    if not path.exists():
        return Settings().source_table
    try:
        return call.settings.source_table
    except SettingsError:
        if force:
            return Settings().source_table
        raise


def _write_question(call: Call, tables: Tables, source: TableName, path: Path | None) -> View | None:
    """Write the question to the file, without an answer."""
    text = question_text(tables, source)
    view = QuestionView(tables, source, text, call.target, path)
    if path:
        _write(path, text)
        return view
    if call.output.as_json:
        return view
    call.output.tell(*view.lines(call.output.width))
    call.output.raw(text)
    return click.get_current_context().exit(1)


def _ask(call: Call, tables: Tables, source: TableName) -> Choice | TableName | None:
    call.output.tell(*choice_lines(tables, source, call.output.width))
    options: list[Choice | TableName] = [*tables.choices, *([tables.new] if tables.new else [])]
    number = call.output.choose("Which one holds your users?", len(options))
    if number is None:
        call.output.say("Nothing was written.")
        click.get_current_context().exit(1)
    return options[number - 1]


def _ask_settings(call: Call, proposal: Proposal) -> dict[str, Answer]:
    """The user's answers to open questions, by setting."""
    answers = {}
    for question in proposal.asked:
        call.output.tell("", *question_lines(question, call.output.width))
        number = call.output.choose("Your answer?", len(question.answers))
        if number is not None:
            answers[question.setting] = question.answers[number - 1]
    return answers


def _shadowed(path: Path) -> str | None:
    """The settings file that the new file replaces, if any."""
    project = Path("pyproject.toml")
    if path != Path(FILE_NAME) or not project.is_file():
        return None
    return "pyproject.toml" if "[tool.usersync" in project.read_text("utf-8", "replace") else None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
