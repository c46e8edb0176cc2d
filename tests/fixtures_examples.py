"""Virtual environments with usersync from its wheel, for tests that run the examples as their READMEs say."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hooks_skips import skip_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def example_python(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """Create an environment with the wheel, its extras and further packages. Returns its Python interpreter.

    All worker processes of a run share the environment. The versions are those of requirements.lock, so that
    packages come from uv's cache.
    """
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "examples"
    directory.mkdir(exist_ok=True)

    def make(extras: str, *packages: str) -> Path:
        wheel = _wheel(directory)
        environment = directory / "-".join([extras.replace(",", "-"), *packages])
        with _one_at_a_time(environment.with_suffix(".lock")):
            if not environment.exists():
                _uv("venv", "--python", sys.executable, environment)
                _uv(
                    *("pip", "install", "--python", environment / "bin/python"),
                    *("--constraint", ROOT / "requirements.lock", f"{wheel}[{extras}]", *packages),
                )
        return environment / "bin/python"

    return make


def _wheel(directory: Path) -> Path:
    with _one_at_a_time(directory / "wheel.lock"):
        if not list(directory.glob("*.whl")):
            build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
            subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _uv(*arguments: object) -> None:
    program = Path(sys.executable).with_name("uv")
    if not program.exists():
        skip_without("uv")
    command = [program, *map(str, arguments), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
