"""Lists the names of dependencies that a run has not used: ``pytest --uses-dependencies``.

``make test-lowest`` runs a selection of tests with the lowest versions of the dependencies. With this option,
it lists at its end the names of dependencies (``click.prompt``, ``psycopg.rows.dict_row``) that usersync uses
only in functions that the selection has not called in its own processes.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import usersync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

ROOT = Path(usersync.__file__).parent

_TERMINAL = "on a terminal, in another process: tests/cli/test_cli_init_questions.py, test_cli_status.py"

#: Names that the selection uses in other processes only, which are not traced.
USED_IN_OTHER_PROCESSES = {
    **dict.fromkeys(("click.Abort", "click.IntRange", "click.confirm", "click.prompt"), _TERMINAL),
    **dict.fromkeys(("rich.console.Console", "rich.live.Live", "rich.text.Text.from_ansi"), _TERMINAL),
    "pytest.skip": "in a session of pytest of its own: tests/testing/test_plugin.py",
}

_called: set[CodeType] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--uses-dependencies",
        action="store_true",
        help="list the names of dependencies that the run has not used",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--uses-dependencies"):
        threading.settrace(_note)
        sys.settrace(_note)


def _note(frame: FrameType, _event: str, _argument: Any) -> None:
    """Note the call of a function. It returns None so that Python does not also call it for each line."""
    _called.add(frame.f_code)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not config.getoption("--uses-dependencies"):
        return
    sys.settrace(None)
    called = {
        f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_firstlineno}"
        for code in _called
        if code.co_filename.startswith(f"{ROOT}/")
    }
    if hasattr(config, "workeroutput"):  # a worker of xdist
        config.workeroutput["called"] = sorted(called)
        return
    config.stash[_FOUND] = config.stash.get(_FOUND, set()) | called


_FOUND = pytest.StashKey[set[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    stash = node.config.stash
    stash[_FOUND] = stash.get(_FOUND, set()) | set(getattr(node, "workeroutput", {}).get("called", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--uses-dependencies") or hasattr(config, "workeroutput"):
        return
    left = missing(config.stash.get(_FOUND, set()))
    terminalreporter.section(f"{len(left)} names of dependencies were not used")
    for name, functions in left.items():
        terminalreporter.write_line(f"{name}: {', '.join(functions)}")


def missing(called: set[str]) -> dict[str, list[str]]:
    """The unused names, each with the functions that use it and were not called."""
    used, unused = set(USED_IN_OTHER_PROCESSES), defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT)
        for line, function, names in uses(path):
            for name in names:
                if f"{where}:{line}" in called:
                    used.add(name)
                else:
                    unused[name].append(f"{where}::{function}")
    return {name: unused[name] for name in sorted(unused.keys() - used)}


def uses(path: Path) -> Iterator[tuple[int, str, set[str]]]:
    """The functions of a file that use a dependency: the first line, the name, and the used names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _functions(tree.body, dict(_bindings(tree.body)), ())


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """The names that imports of dependencies bind, each with its full name.

    Skips imports for type checkers.
    """
    for node in body:
        if isinstance(node, ast.Import):
            for each in node.names:
                if _is_dependency(each.name):
                    first = each.name.partition(".")[0]
                    yield each.asname or first, each.name if each.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level and _is_dependency(node.module or ""):
            for each in node.names:
                yield each.asname or each.name, f"{node.module}.{each.name}"
        elif isinstance(node, ast.Try | ast.With) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)
        ):
            yield from _bindings(node.body)


def _is_dependency(module: str) -> bool:
    return module.partition(".")[0] not in {*sys.stdlib_module_names, "usersync"}


def _functions(
    body: list[ast.stmt], bound: dict[str, str], outer: tuple[str, ...]
) -> Iterator[tuple[int, str, set[str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, bound, (*outer, node.name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = list(_statements(node.body))
            own = bound | dict(_bindings(statements))
            names = {name for each in node.body for name in _names(each, own)}
            if names:
                line = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                yield line, ".".join((*outer, node.name)), names
            inner = [each for each in statements if isinstance(each, _DEFINITIONS)]
            yield from _functions(inner, own, (*outer, node.name))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _functions(node.body, bound, outer)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a function and of its blocks, without the statements of inner functions."""
    for node in body:
        yield node
        if not isinstance(node, _DEFINITIONS):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _names(node: ast.AST, bound: dict[str, str]) -> Iterator[str]:
    """The names of dependencies in a statement, without its annotations and inner functions."""
    if isinstance(node, _DEFINITIONS):
        return
    chain, attributes = node, []
    while isinstance(chain, ast.Attribute):
        attributes.append(chain.attr)
        chain = chain.value
    if isinstance(chain, ast.Name):
        if chain.id in bound:
            yield ".".join((bound[chain.id], *reversed(attributes)))
        return
    for field, value in ast.iter_fields(node):
        if field not in {"annotation", "returns"}:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield from _names(each, bound)
