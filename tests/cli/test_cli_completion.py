"""``usersync completion``: with a real bash, and with the requests that the scripts of zsh and fish send."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hooks_skips import skip_without
from usersync.cli.completion import SHELLS

BIN = Path(sys.executable).parent


def completions(shell, line, word):
    """The completions that a shell gets for ``word`` after ``line``."""
    words = f"usersync {line} {word}".split()
    position = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - bool(word))}
    if shell == "fish":
        position["COMP_CWORD"] = word
    done = subprocess.run(
        [sys.executable, "-m", "usersync"],
        env=os.environ | position | {"_USERSYNC_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_codes_are_completed(usersync, shell):
    done = usersync("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_USERSYNC_COMPLETE={shell}_complete" in done.out
    assert "status" in completions(shell, "", "sta")
    assert "--only" in completions(shell, "doctor", "--on")


def test_completion_imports_no_command_to_name_them():
    program = (
        "import os, sys; os.environ.update(COMP_WORDS='usersync ', COMP_CWORD='1', "
        "_USERSYNC_COMPLETE='bash_complete')\n"
        "from usersync.cli.main import run\n"
        "try:\n    run([])\n"
        "finally:\n    sys.exit('usersync.cli.apply' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "plain,apply" in done.stdout


def test_completion_works_in_bash(tmp_path):
    bash = shutil.which("bash") or skip_without("bash")
    script = """
        set -e
        source <(usersync completion bash)
        complete_line() {
            COMP_WORDS=(usersync "$@"); COMP_CWORD=$#; COMPREPLY=()
            _usersync_completion usersync; echo "${COMPREPLY[@]}"
        }
        complete_line au
        complete_line audit tr
        complete_line audit search --sev
        complete_line explain on_d
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["audit", "track tracked", "--severity", "on_delete"], done.stderr


def test_another_shell_is_refused(usersync):
    done = usersync("completion", "tcsh")
    assert done.code == 2
    assert "'bash', 'zsh', 'fish'" in done.err
