"""``usersync delete-plan``: the rows that a user's deletion would delete or change, table by table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.find_user import find_user
from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import bad, bold, count, faint, good, number, plain, table, warning, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.config.settings import Settings
    from usersync.schema.delete_plan import Consequence, DeletionPlan, RowFate

#: Reading a smaller table as a whole takes no noticeable time.
_LARGE_TABLE = 10_000


@dataclass(frozen=True)
class DeletePlanView:
    """Each table that a deletion affects, and what prevents the deletion."""

    plan: DeletionPlan
    target: str
    settings: Settings

    @property
    def exit_code(self) -> int:
        return 1 if self.plan.blocked else 0

    def lines(self, width: int) -> Iterator[str]:
        plan = self.plan
        yield f"{bold(str(plan.user_id))}  {self._verdict()}"
        yield from wrap(self._auth(), width, first="  ")
        row = _fate(plan.row, "on_delete")
        yield from wrap(f"{self.settings.users_table}: {row}", width, first="  ")
        affected = [each for each in plan.consequences if each.effect != "nothing"]
        if affected:
            yield ""
            heads = tuple(map(faint, ("table", "rows", "effect", "foreign key")))
            yield from table([heads, *map(_row, affected)], width, indent="  ")
        yield ""
        yield from self._others(width)
        yield from self._remarks(width)
        if plan.in_auth:
            yield from self._other_deletions(width)

    def _verdict(self) -> str:
        blocking = [each for each in self.plan.consequences if each.effect == "blocks"]
        if any(each.origin == "auth" for each in blocking):
            return bad("cannot be deleted")
        if blocking:
            return bad("can be deleted, but the row stays, and a sync failure is recorded")
        if not self.plan.in_auth:
            return good("is deleted")
        if any(each.effect == "unknown" for each in self.plan.consequences):
            return warning("can probably be deleted: not everything could be read")
        return good("can be deleted")

    def _auth(self) -> str:
        if not self.plan.in_auth:
            return f"{self.settings.source_table}: the user is already deleted"
        state = " (already soft-deleted)" if self.plan.soft_deleted else ""
        return f"{self.settings.source_table}: the row is deleted{state}"

    def _others(self, width: int) -> Iterator[str]:
        plan = self.plan
        if plan.linked_events:
            what = "lose their link" if plan.unlinks_events else "stay linked"
            events = _counted(plan.linked_events, "event")
            yield from wrap(f"Audit log: {events} {what}. The events and their actors stay.", width)
        if plan.storage_objects:
            objects = _counted(plan.storage_objects, "object")
            yield from wrap(f"Storage: {objects} of the user and their files stay.", width)
        unaffected = sum(each.effect == "nothing" for each in plan.consequences)
        if unaffected:
            yield from wrap(
                f"{count(unaffected, 'more foreign key')}, without a row that refers to this user.", width
            )

    def _remarks(self, width: int) -> Iterator[str]:
        for each in self.plan.consequences:
            if not each.indexed and (each.estimated_rows >= _LARGE_TABLE or each.rows is None):
                yield from wrap(
                    f"{plain(each.table)} ({plain(', '.join(each.columns))}) has no index: the deletion of "
                    f"each row reads all {number(each.estimated_rows)} rows of the table.",
                    width,
                    first=warning("slow: "),
                )

    def _other_deletions(self, width: int) -> Iterator[str]:
        effect = _fate(self.plan.soft_row, "on_soft_delete")
        if self.plan.soft_row == "none":
            effect = f"the users table {effect}"
        yield from wrap(
            f"A soft delete (admin API) fires no foreign key to the auth server's table: {effect}.",
            width,
            first=faint("soft: "),
        )
        yield from wrap(
            "TRUNCATE of the auth server's table fires no trigger of usersync. The rows stay as they are.",
            width,
            first=faint("truncate: "),
        )

    def data(self) -> dict[str, Any]:
        return {"database": self.target, **asdict(self.plan), "blocked": self.plan.blocked}


def _row(each: Consequence) -> tuple[str, str, str, str]:
    rows = "?" if each.rows is None else f"{'more than ' if each.more else ''}{number(each.rows)}"
    effect: str = each.effect
    shown = bad(effect) if effect == "blocks" else warning(effect) if effect == "unknown" else effect
    why = f" ({plain(each.reason)})" if each.reason else ""
    key = f"{each.constraint} to {each.refers_to}, on delete {each.on_delete}"
    return plain(each.table), rows, shown, f"{plain(key)}{why}"


def _fate(row: RowFate, setting: str) -> str:
    from usersync.schema.delete_plan import ROW_FATES  # noqa: PLC0415 - only if used

    return ROW_FATES[row].format(setting=setting)


def _counted(rows: int, one: str) -> str:
    from usersync.schema.delete_plan import MOST_ROWS  # noqa: PLC0415 - only if used

    return f"more than {number(MOST_ROWS)} {one}s" if rows > MOST_ROWS else count(rows, one)


@click.command(
    "delete-plan",
    epilog=examples(
        ("usersync delete-plan ID", "table by table, and what prevents it"),
        ("usersync delete-plan ada@example.com", "by e-mail address or phone number"),
        ("usersync delete-plan ID --json", "for programs"),
    ),
)
@click.argument("user")
@common_options
def delete_plan(call: Call, user: str) -> View:
    """Show which rows a user's deletion would delete or change. Changes nothing.

    Follows every foreign key that leads to the user, from row to row, and counts at most 10,000 rows of each.
    Exit code 1 if a foreign key would prevent the deletion.
    """
    from usersync.schema.delete_plan import plan_deletion  # noqa: PLC0415 - only if used

    settings = call.applied_settings
    found = find_user(call, user)
    return DeletePlanView(call.run(plan_deletion(settings, found)), call.target, settings)
