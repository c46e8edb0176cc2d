"""Type checkers report the invalid calls in typed_calls.py, and accept its valid calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hooks_skips import skip_without

CALLS = Path(__file__).with_name("typed_calls.py")


def output_of(program, *arguments):
    found = Path(sys.executable).with_name(program)
    if not found.exists():
        skip_without(program)
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


def mypy(directory):
    said = output_of("mypy", "--strict", "--no-pretty", f"--cache-dir={directory}", "--config-file=", CALLS)
    return {int(line): text for line, text in re.findall(r"typed_calls\.py:(\d+): error: (.*)", said)}


def pyright(directory):
    (directory / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    said = output_of(
        "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", directory, CALLS
    )
    errors = [each for each in json.loads(said)["generalDiagnostics"] if each["severity"] == "error"]
    return {
        each["range"]["start"]["line"] + 1: each["message"] for each in errors if each["file"] == str(CALLS)
    }


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_type_checker_reports_exactly_the_calls_marked_wrong(checker, tmp_path):
    lines = CALLS.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 30
    found = checker(tmp_path)
    assert {number: lines[number - 1] for number in wrong - found.keys()} == {}
    assert {lines[number - 1]: found[number] for number in found.keys() - wrong} == {}
