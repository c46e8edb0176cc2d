"""An application before and after ``init`` and ``apply --adopt``, as a new user runs them."""

from __future__ import annotations

import io
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twins import Side, Twins

from command_result import CommandResult
from usersync.cli.main import run
from usersync.config.settings import load_settings, parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from usersync.testing import GoTrue, SupabaseCluster, SupabaseDatabase


class Command:
    """``usersync`` for one database, with a file of its own."""

    def __init__(self, database: SupabaseDatabase, config: Path) -> None:
        self._dsn = database.dsn()
        self.config = config

    def __call__(self, *arguments: str) -> CommandResult:
        out, err = io.StringIO(), io.StringIO()
        where = ["--dsn", self._dsn, "--config", str(self.config)]
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*arguments, *where])
        return CommandResult(code, out.getvalue(), err.getvalue())


@dataclass
class Installation:
    """The result of installing usersync in one of two clones."""

    twins: Twins
    usersync: Command
    #: The output of init and of apply.
    init: CommandResult
    apply: CommandResult
    #: The rows of the tables before apply and after it.
    changed: list[str]

    @property
    def output(self) -> str:
        return f"{self.usersync.config.read_text()}\n{self.init}\n{self.apply}"

    def assert_init_proposes_it(self) -> None:
        """``usersync init`` after ``apply`` proposes what is installed."""
        again = self.usersync("init", "--yes", "--json", "--stdout")
        assert again.code in {0, 1}, f"{self.output}\n{again}"
        proposed, installed = parse_settings(again.json["settings"]), load_settings(self.usersync.config)
        assert proposed == installed, f"{self.output}\n{again}"

    def leave_out_first_run(self) -> None:
        """Ignore rows that the first run created or changed, which must have been announced."""
        assert not self.changed or self._first_run_is_announced, self.output
        for line in self.changed:
            users = {id_ for id_, name in self.twins.names.items() if f"<{name}>" in line}
            self.twins.excluded_users |= users
            if not users:
                self.twins.announced.add(line.partition(" ")[0])

    @property
    def _first_run_is_announced(self) -> bool:
        messages = [each["message"] for each in self.apply.json["findings"]]
        return any("the first run" in each and "would write nothing" not in each for each in messages)

    @property
    def was_declined(self) -> bool:
        return self.apply.json.get("state") in {"not accepted", "not decided"}

    @property
    def differences(self) -> list[dict[str, Any]]:
        """The differences that apply announced."""
        trial = self.apply.json.get("trial") or {}
        return list(trial.get("differences", ()))


def install(
    cluster: SupabaseCluster,
    stack: ExitStack,
    config: Path,
    sql: str,
    *,
    table: str | None,
    people: Callable[[Side, Twins], None],
    random: Collection[str] = (),
    decided: str = "",
    options: tuple[str, ...] = (),
) -> Installation:
    """Create the application and its users, clone it, and install usersync in the clone."""
    template = cluster.template("supabase_old", regime="old")
    first = cluster.clone(template)
    stack.callback(cluster.drop, first)
    names: dict[str, str] = {}
    with ExitStack() as filling:
        side = Side(first, filling)
        side.owner.execute(sql)
        twins = Twins(side, side)
        people(side, twins)
        names = twins.names
    second = cluster.clone(first)
    stack.callback(cluster.drop, second)
    twins = Twins(Side(first, stack), Side(second, stack), random)
    twins.names = names
    usersync = Command(second, config)
    init = usersync("init", "--yes", *(("--table", table) if table else ()))
    if decided:
        config.write_text(config.read_text() + decided)
    before = twins.synced.rows()
    apply = usersync("apply", "--yes", "--adopt", "--json", *options)
    return Installation(twins, usersync, init, apply, twins.compared(before, twins.synced.rows()))


def act(method: str, /, *arguments: Any, **options: Any) -> Callable[[GoTrue], object]:
    """A request of the auth server, by the name of the method."""
    return lambda auth: getattr(auth, method)(*arguments, **options)
