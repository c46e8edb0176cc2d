"""The benchmarks in ``bench/``: each runs, invalid arguments are errors, and earlier results are kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "bench" / "run.py"

INVALID_ARGUMENTS = {
    "--pg 99": "--pg: this machine has",
    "--record-events 9": "--record-events: expected 10 or more",
    "--rounds 0": "--rounds: expected 1 or more",
    "--only sign_in": "no such benchmark: sign_in",
}


@pytest.mark.parametrize("arguments", INVALID_ARGUMENTS)
def test_invalid_arguments_are_an_error(arguments):
    command = [sys.executable, str(RUN), "--quick", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert INVALID_ARGUMENTS[arguments] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_running_one_benchmark_keeps_the_results_of_the_others(tmp_path):
    row = {"name": "sign-up", "against": "none", "aim": "", "met": None, "benchmark": "sign_up"}
    row |= {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "", "ours": "", "theirs": ""}
    kept = {"rows": [row, row | {"benchmark": "record"}], "profiles": {"sign_up": {}}, "took": {"sign_up": 7}}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    arguments = ["--quick", "--only", "record", "--record-events", "10", "--out", str(tmp_path)]
    subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, check=True, timeout=300)
    document = json.loads((tmp_path / "results.json").read_text())
    assert [each for each in document["rows"] if each["benchmark"] == "sign_up"] == [row]
    assert row | {"benchmark": "record"} not in document["rows"]
    assert document["seconds"] == 7 + document["took"]["record"]
    assert "| sign-up |" in (tmp_path / "results.md").read_text()


TINY = (
    "--quick --rounds 1 --statements 20 --commits 10 --imported 20 --users 100 --events 100 --bulk 20 "
    "--feed-events 1500 --search-events 1000 --handled-events 50 --looks 1 --jobs 3 --webhooks 70 "
    "--deleted 20 --record-events 10 --record-rounds 1"
)

#: Runs a benchmark without fsync, because the test does not check its times.
FAST = "import sys; sys.path.insert(0, {bench!r}); import measuring, {module}; "
FAST += "measuring.SETTINGS['fsync'] = 'off'; {module}.main()"


def bench(module, arguments):
    """Run a script of bench/, and return what it writes to standard error."""
    code = FAST.format(bench=str(RUN.parent), module=module)
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.starts_first
@pytest.mark.timeout(600)
def test_every_benchmark_runs(tmp_path):
    told = bench("run", TINY.split())
    for name in re.search(r"BENCHMARKS = \(([^)]*)\)", RUN.read_text())[1].replace('"', "").split(","):
        assert f"{name.strip()} … " in told
    bench("growth", [*["--sizes", "1000", "--only", "sign_up", "--rounds", "1", "--out"], str(tmp_path)])
    points = json.loads((tmp_path / "growth.json").read_text())["points"]
    assert {each["series"] for each in points} >= {"sign-up", "sign-up: the limit"}
