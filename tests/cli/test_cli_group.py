from __future__ import annotations

import inspect
import re
import subprocess
import sys

import click
import pytest
from terminal import Terminal

from usersync import __version__
from usersync.cli.group import usersync as command
from usersync.cli.lazy import LazyGroup, walk
from usersync.cli.options import names
from usersync.cli.output import error_lines
from usersync.errors import SettingsError

#: Every command, by its path.
ENTRIES = {" ".join(words): entry for words, entry in walk(command)}
COMMANDS = {words: entry for words, entry in ENTRIES.items() if not isinstance(entry.load(), LazyGroup)}
GROUPS = {words: entry.load() for words, entry in ENTRIES.items() if words not in COMMANDS}


def test_version_prints_the_versions(usersync):
    done = usersync("--version")
    assert (done.code, done.out) == (0, f"usersync {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_describes_usersync_and_lists_every_command(usersync, arguments):
    done = usersync(*arguments)
    assert done.code == 0
    assert "in sync with Supabase Auth" in done.out
    assert all(f"  {name} " in done.out for name in command.entries)
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize("words", GROUPS)
def test_the_help_of_a_group_lists_its_commands(usersync, words):
    done = usersync(*words.split())
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in GROUPS[words].entries)
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_neither_a_driver_nor_rich(option):
    program = (
        "import sys; from usersync.cli.main import run; run([sys.argv[1]]);"
        "print(*sorted({'psycopg', 'rich', 'dotenv', 'usersync.core', 'usersync.schema'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, option], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_a_description_and_examples(usersync, name):
    done = usersync(*name.split(), "--help")
    assert done.code == 0
    assert f"Usage: usersync {name}" in done.out
    assert f"  usersync {name}" in done.out.partition("Examples:")[2]
    assert all(len(line) <= 80 for line in done.out.splitlines())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_of_commands_has_the_summaries_of_the_commands(name):
    assert inspect.cleandoc(ENTRIES[name].load().help).splitlines()[0] == ENTRIES[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_each_command_has_a_help_text(name):
    options = [each for each in ENTRIES[name].load().params if isinstance(each, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert {"as_json", "verbose"} <= {option.name for option in options}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["xyzzy"], "commands: demo, doctor, why, delete-plan, console, explain, init"),
        (["--json", "status"], "usersync has no option '--json'"),
        (["status", "--wathc"], "did you mean '--watch'?"),
        (["sync", "--workers", "0"], "0 is not in the range 1<=x<=32"),
        (["sync", "--workers", "9" * 5000], "not a valid integer"),
        (["sync", "--page-size", "ten"], "not a valid integer"),
        (["sync", "--max", "nan"], "not a valid integer"),
        (["sync", "--max", "-1"], "not in the range"),
        (["sync", "--user", "ada"], "not a valid UUID"),
        (["sync", "--dry-run", "--resume"], "is not allowed with"),
        (["failures", "--limit", "-1"], "not in the range"),
        (["status", "--watch", "inf"], "not in the range"),
        (["status", "extra"], "unexpected extra argument"),
        (["audit", "spol"], "did you mean 'spool'?"),
        (["audit", "--json", "spool"], "usersync audit has no option '--json'"),
        (["demo", "--dsn", "postgresql://h/d"], "usersync demo has no option '--dsn'"),
        (["apply", "--ys"], "did you mean '--yes'?"),
        (["audit", "track", "t", "--dry"], "did you mean '--dry-run'?"),
        (["status", "\udcff\x1b[2J" * 100_000], "unexpected extra argument"),
    ],
)
def test_invalid_arguments_are_refused_with_exit_code_2(usersync, arguments, words):
    done = usersync(*arguments)
    assert done.code == 2
    report = done.err or done.json["error"]["message"]
    assert words.lower() in report.lower()
    assert len(report) < 5000
    assert "\x1b" not in report


def test_no_suggestion_is_made_for_an_option_of_another_command(usersync):
    assert usersync("status", "--yes").err.splitlines()[0] == (
        "usersync: error US101: usersync status has no option '--yes'"
    )


@pytest.mark.parametrize("group", [[], ["audit"]])
def test_the_error_for_an_option_before_the_command_says_where_to_put_it(usersync, group):
    done = usersync(*group, "--config", "usersync.toml", "status")
    path = " ".join(["usersync", *group])
    assert done.code == 2
    assert f"hint: Options come after the command: {path} COMMAND --config …" in done.err


def test_an_option_that_takes_a_list_can_be_repeated():
    """Otherwise click keeps the last value only, without an error."""
    lists = {
        f"{name} {option.opts[0]}": option.multiple
        for name in COMMANDS
        for option in ENTRIES[name].load().params
        if isinstance(option, click.Option) and _takes_list(option)
    }
    assert {"audit track --exclude", "doctor --only"} <= lists.keys()
    assert [name for name, multiple in lists.items() if not multiple] == []


def _takes_list(option):
    return re.search(r"\w,\w", f"{option.metavar} {option.help}")


@pytest.mark.parametrize("given", [["a,b", " a , c,"], ["a", "b", "c"], ["a,b,c"]])
def test_names_may_be_separated_by_commas_or_by_repeated_options(given):
    assert names(None, None, tuple(given)) == ("a", "b", "c")


def test_an_error_is_wrapped_on_a_terminal_and_one_line_in_a_file():
    error = SettingsError(" ".join(["word"] * 60), hint=" ".join(["hint"] * 60))
    on_terminal = [click.unstyle(line) for line in error_lines(error, 60, wraps=True)]
    assert max(map(len, on_terminal)) <= 60
    assert re.findall(r"word|hint(?!:)", "".join(on_terminal)) == ["word"] * 60 + ["hint"] * 60
    assert click.unstyle(next(iter(error_lines(error, 60)))).count("word") == 60


def test_the_first_line_of_an_error_is_wrapped_on_a_terminal():
    with Terminal("explain", "x" * 30 + " " + "y" * 50) as terminal:
        assert terminal.end() == 2
    assert all(len(line) <= 80 for line in terminal.text.splitlines())


def test_errors_of_invalid_arguments_are_json_with_json(usersync):
    done = usersync("sync", "--workers", "none", "--json")
    assert (done.code, done.err) == (2, "")
    error = done.json["error"]
    assert (error["code"], error["more"]) == ("US101", "usersync explain US101")
    assert error["hint"] == "See: usersync sync --help"
