"""What ``python bench/run.py`` refuses before it begins: a mistake must not show after an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "bench" / "run.py"

REFUSED = {
    "--pg 99": "--pg: this machine has",
    "--record-events 9": "--record-events: expected 10 or more",
    "--rounds 0": "--rounds: expected 1 or more",
    "--only sign_in": "no such benchmark: sign_in",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_measured_is_refused_at_once(words):
    command = [sys.executable, str(RUN), "--quick", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert REFUSED[words] in done.stderr
    assert "Traceback" not in done.stderr
