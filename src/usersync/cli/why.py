"""``usersync why``: explains one user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.failures import failure_lines
from usersync.cli.find_user import find_user
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import ago, align, bad, bold, clip, faint, good, plain, typed, warning, wrap
from usersync.core.why import SYNC_EFFECTS
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usersync.cli.output import View
    from usersync.config.settings import Settings
    from usersync.core.why import ColumnReport, UserReport

_CELL = 26

_OPTIONS = {"orphaned": "--remove-orphans", "deleted_upstream": "--apply-deletions"}


@dataclass(frozen=True)
class WhyView:
    """Both rows side by side, the sync failure, and the effect of a sync."""

    report: UserReport
    target: str
    settings: Settings

    @property
    def exit_code(self) -> int:
        return 0 if self.report.in_step else 1

    def lines(self, width: int) -> Iterator[str]:
        report = self.report
        yield f"{bold(str(report.user_id))}  {self._verdict()}"
        yield from wrap(self._auth(), width, first="  auth server  ")
        yield from wrap(self._row(), width, first="  users table  ")
        if report.columns:
            yield ""
            yield from align([("column", "auth server", "users table", ""), *self._columns()], indent="  ")
        if report.missing:
            yield ""
            yield from wrap(_missing(self.settings, report.missing), width)
        if report.failure is not None:
            yield ""
            yield "Sync failure:"
            yield from (f"  {line}" for line in failure_lines(report.failure, width - 2))
        yield ""
        effect = "The sync would fail as before." if report.fails_again else SYNC_EFFECTS[report.prospect]
        yield from wrap(effect, width, first="If synced now:  ")
        if report.prospective_failure is not None:
            if not report.fails_again:
                lines = failure_lines(report.prospective_failure, width - 2, times=False)
                yield from (f"  {line}" for line in lines)
        elif report.prospect not in {"nothing", "skipped", "not_tried"}:
            option = _OPTIONS.get(report.prospect, f"--user {report.user_id}")
            yield f"  {typed(f'usersync sync {option}')}"

    def _verdict(self) -> str:
        report = self.report
        if report.in_step:
            return good("skipped" if report.prospect == "skipped" else "in sync")
        if not report.has_row and report.auth is not None:
            return bad("has no row")
        if report.prospect == "not_tried" and not any(column.differs for column in report.columns):
            return warning("not known")
        is_failure = report.prospect in {"nothing", "skipped"} and not report.missing
        return warning("sync failure" if is_failure else "out of sync")

    def _auth(self) -> str:
        auth = self.report.auth
        if auth is None:
            return "no such user"
        return ", ".join(
            f"{words} {_when(auth[name])}"
            for name, words in (
                ("created_at", "signed up"),
                ("email_confirmed_at", "e-mail confirmed"),
                ("phone_confirmed_at", "phone confirmed"),
                ("last_sign_in_at", "last sign-in"),
                ("banned_until", "banned until"),
                ("deleted_at", "deleted"),
            )
            if auth[name]
        ) + "".join(
            f", {words}"
            for name, words in (("is_anonymous", "anonymous"), ("is_sso_user", "single sign-on"))
            if auth[name]
        )

    def _row(self) -> str:
        report = self.report
        if not report.has_row:
            return f"{self.settings.users_table} has no row"
        when = f", {_when(report.written_at.isoformat())}" if report.written_at else ""
        return f"{self.settings.users_table}, last written by transaction {report.written_by}{when}"

    def _columns(self) -> Iterator[tuple[str, str, str, str]]:
        for column in self.report.columns:
            stored = "" if column.missing else _cell(column.stored)
            yield column.name, _cell(column.wanted), stored, self._remark(column)

    def _remark(self, column: ColumnReport) -> str:
        if column.missing:
            return bad("no such column")
        if column.owner == "app":
            return faint("app-owned")
        if column.differs:
            return warning("differs")
        return ""

    def data(self) -> dict[str, Any]:
        return {"database": self.target, **asdict(self.report), "in_step": self.report.in_step}


@dataclass(frozen=True)
class WhyColumnView:
    """The sources of one column's value, and the reason for it."""

    report: UserReport
    column: ColumnReport
    target: str
    settings: Settings

    @property
    def exit_code(self) -> int:
        return 1 if self.column.differs or self.column.missing else 0

    def lines(self, width: int) -> Iterator[str]:
        column = self.column
        yield f"{bold(str(self.report.user_id))}  {column.name}"
        yield from align(
            [
                *((f"  {source}", _cell(value)) for source, value in column.sources.items()),
                ("  mapped value", _cell(column.wanted)),
                *(
                    ()
                    if column.missing
                    else (
                        ("  stored value", _cell(column.stored)),
                        ("  after a sync", _cell(column.would_be)),
                    )
                ),
            ]
        )
        yield ""
        yield from wrap(self._why(), width)

    def _why(self) -> str:
        column = self.column
        return _missing(self.settings, [column.name]) if column.missing else self._reason()

    def _reason(self) -> str:
        column, report = self.column, self.report
        if not report.has_row:
            return "The user has no row, so the column has no value."
        if column.owner == "app":
            return "The column is app-owned: usersync filled it once, when it created the row."
        if report.auth is None or report.auth["deleted_at"]:
            return "The user is deleted. on_delete and on_soft_delete determine the stored value."
        if not column.differs:
            return "The column is mirrored from the auth server, and is in sync."
        if report.failure is not None and report.failure.column == column.name:
            return f"The value could not be stored: {plain(report.failure.message)}"
        return (
            "The column is mirrored from the auth server, but differs. The application changed it, or no "
            "trigger ran for the change in the auth server."
        )

    def data(self) -> dict[str, Any]:
        return {
            "database": self.target,
            "user_id": self.report.user_id,
            **asdict(self.column),
            "why": self._why(),
        }


def _missing(settings: Settings, columns: Sequence[str]) -> str:
    named = f"column{'' if len(columns) == 1 else 's'} {', '.join(columns)}, which the settings map"
    return (
        f"{settings.users_table} has no {named}. It was renamed or dropped after usersync was applied. "
        "For the fix, run: usersync plan (D012)"
    )


def _cell(value: str | None) -> str:
    return faint("null") if value is None else clip(plain(value) or '""', _CELL)


def _when(text: str) -> str:
    moment = datetime.fromisoformat(text)
    now = datetime.now(UTC)
    return ago(now - moment) if moment <= now else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


@click.command(
    epilog=examples(
        ("usersync why ID", "both rows, the failure, the effect of a sync"),
        ("usersync why ada@example.com", "by e-mail address or phone number"),
        ("usersync why 'Ada Lovelace'", "by name, if only one user has it"),
        ("usersync why ID full_name", "the sources of one column's value"),
    )
)
@click.argument("user")
@click.argument("column", required=False)
@common_options
def why(call: Call, user: str, column: str | None) -> View:
    """Explain one user: both rows, their differences, and what a sync would do.

    Tries the sync in a transaction that is rolled back. Shows personal data. USER is an id, an e-mail
    address, a phone number or a name. Exit code 1 if the user is out of sync.
    """
    from usersync.core import why as operations  # noqa: PLC0415 - only if used

    settings = call.applied_settings
    report = call.run(operations.explain_user(settings, find_user(call, user, by_name=True)))
    if column is None:
        return WhyView(report, call.target, settings)
    return WhyColumnView(report, _column(report, column), call.target, settings)


def _column(report: UserReport, name: str) -> ColumnReport:
    for column in report.columns:
        if column.name == name:
            return column
    mapped = ", ".join(column.name for column in report.columns)
    raise SettingsError(f"{name!r} is not a mapped column", hint=f"Mapped columns: {mapped}")
