"""The application's triggers on the users table. They run inside ours, and so on our search path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.plans.doctor.examination import Definition, Patient, Trouble, Verdict
from usersync.plans.inspection import PINNED
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Plan, Row


def look(patient: Patient) -> Plan[Verdict]:
    rows = yield from query(PINNED + patient.bundle.path_reliance)
    listed = ", ".join(f"{row['name']} ({row['function']})" for row in rows)
    return Verdict(listed or "there are none", tuple(_troubles(rows)))


def _troubles(rows: list[Row]) -> Iterator[Trouble]:
    for row in rows:
        if row["names"]:
            alter = f"alter function {row['function']} set search_path = {row['search_path']};"
            yield Trouble(
                f"the trigger {row['name']} runs {row['function']}, which finds {', '.join(row['names'])} "
                "by its caller's search path. From a sign-up it does not, and the user goes to the ledger",
                alter if row["is_ours"] else f"-- To be run by the owner of the function: {alter}",
                "warning",
            )


CHECK = Definition("D015", "Triggers on the users table", look, "users table")
