"""``usersync doctor``: everything that can be wrong, numbered, each with the fix."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import DEFAULTS, Call, common_options, examples
from usersync.cli.text import bad, bold, count, faint, good, plain, typed, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.cli.output import View
    from usersync.models import Check

_INDENT = " " * 8

_MARKS: dict[str, tuple[str, Callable[[str], str]]] = {
    "ok": ("✓", good),
    "warning": ("!", warning),
    "problem": ("✗", bad),
    "skipped": ("-", faint),
}


@dataclass(frozen=True)
class DoctorView:
    """A line for each check that is well; what is wrong and the fix under each that is not."""

    checks: tuple[Check, ...]
    target: str
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """Warnings count with ``strict``. Where nothing could be checked, nothing is known to be well."""
        found = self._tally()
        failed = found["problem"] or (self.strict and found["warning"])
        return 1 if failed or found["skipped"] == len(self.checks) else 0

    def lines(self, width: int) -> Iterator[str]:
        yield bold(self.target)
        yield ""
        for check in self.checks:
            yield from _check_lines(check, width)
        yield ""
        yield self._summary()
        if found := next((check.code for check in self.checks if check.fix), None):
            yield faint(f"Why a check matters:  usersync explain {found}")

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "checks": [asdict(check) for check in self.checks],
            "summary": {status: self._tally()[status] for status in _MARKS},
        }

    def _tally(self) -> Counter[str]:
        return Counter(check.status for check in self.checks)

    def _summary(self) -> str:
        found = self._tally()
        parts = [
            good(f"{found['ok']} ok"),
            warning(count(found["warning"], "warning")) if found["warning"] else "no warnings",
            bad(count(found["problem"], "problem")) if found["problem"] else "no problems",
        ]
        if found["skipped"]:
            parts.append(f"{found['skipped']} skipped")
        return ", ".join(parts)


def _check_lines(check: Check, width: int) -> Iterator[str]:
    mark, style = _MARKS[check.status]
    head = f"{style(mark)} {check.code}  "
    if check.fix is None:
        yield from wrap(f"{check.title}: {plain(check.detail)}", width, first=head)
        return
    yield head + bold(check.title)
    for line in check.detail.splitlines():
        yield from wrap(plain(line), width, first=_INDENT)
    yield from _fix_lines(check.fix.splitlines(), width)


#: Leads each line of an advice, so that it stays a comment where it is pasted.
_ADVICE = f"{_INDENT}  -- "
_SHELL = ("usersync ", "pip ")


def _fix_lines(fix: list[str], width: int) -> Iterator[str]:
    """What to paste; where a part is for the database and a part for a shell, which is which."""
    both = len({line.startswith(_SHELL) for line in fix if not line.startswith("--")}) > 1
    if not both:
        yield f"{_INDENT}fix:"
    shown = None
    for number, line in enumerate(fix):
        follower = next((each for each in fix[number:] if not each.startswith("--")), line)
        place = "fix, in a shell:" if follower.startswith(_SHELL) else "fix, as SQL:"
        if both and place != shown:
            shown = place
            yield f"{_INDENT}{place}"
        if line.startswith("-- "):
            advice = wrap(plain(line[3:]), width - len(_ADVICE))
            yield from (f"{_ADVICE}{typed(each)}" for each in advice)
        else:
            # Never wrapped, and every space kept: it is there to be pasted.
            yield f"{_INDENT}  {typed(line if line.isprintable() else plain(line))}"


def _codes(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(code.strip().upper() for code in (value or "").split(",") if code.strip())


@click.command(
    epilog=examples(
        ("usersync doctor", "all checks"),
        ("usersync doctor --only D004,D017", "some of them"),
        ("usersync doctor --strict --json", "for a pipeline"),
    )
)
@click.option("--only", "codes", callback=_codes, metavar="CODES", help="Only these checks, as in D004,D017.")
@click.option("--strict", is_flag=True, help="Let warnings end with exit code 1, too.")
@common_options
def doctor(call: Call, codes: tuple[str, ...], *, strict: bool) -> View:
    """Check everything that can be wrong, each with its fix.

    Looks and writes nothing. Without a settings file, goes by what the database was set up with. Exit code
    1 if there is a problem, or nothing could be checked; 3 if the database cannot be reached.
    """
    from usersync.plans.doctor import choose, examine  # noqa: PLC0415 - only when it is wanted
    from usersync.plans.doctor.applied_settings import applied_settings  # noqa: PLC0415 - likewise
    from usersync.runner import run  # noqa: PLC0415 - a driver, which --help can do without

    checks = choose(codes)
    with call.connection() as connection:
        settings, order_known = call.settings, True
        if call.settings_source == DEFAULTS:
            settings, order_known = run(applied_settings(settings), connection)
        # Through a pooler, the process that the driver was told of is none of the server's (D023).
        pid = connection.info.backend_pid
        plan = examine(settings, checks, client_pid=pid, order_known=order_known)
        return DoctorView(run(plan, connection), call.target, strict)
