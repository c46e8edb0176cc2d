"""``usersync bench``: what usersync adds in this database, measured there and rolled back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import align, bold, count, faint, number, plain, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View
    from usersync.plans.bench import BenchResult, Operation, Spread

_ROUNDS, _FEWEST, _MOST = 100, 10, 1000

_WORDS = {
    "sign_up": "sign-up: the INSERT",
    "confirmation": "the UPDATE that confirms it",
    "sign_in": "sign-in: its UPDATE",
    "event": "an audit event",
    "event_of_batch": "an event, in a batch of {batch}",
    "tracked_update": "an UPDATE of a tracked row",
}


@dataclass(frozen=True)
class BenchView:
    """A line for each statement; how to read it below."""

    result: BenchResult
    target: str
    asked: int
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        done = self.result.rounds
        rest = "" if done == self.asked else f" of {number(self.asked)}: the minute was over"
        yield f"{bold(self.target)}, {count(done, 'round')}{rest}"
        yield ""
        head = ("µs in the server", "without", "usersync adds", "share", "others add")
        yield from align([tuple(map(faint, head)), *map(_cells, self.result.operations)])
        yield ""
        for text in (*self._reading(), *map(plain, self.result.notes)):
            yield from wrap(text, width)

    def data(self) -> dict[str, Any]:
        found = self.result
        return {
            "database": self.target,
            "unit": "µs",
            "rounds": found.rounds,
            "operations": [asdict(each) | {"share": each.share} for each in found.operations],
            "round_trip": asdict(found.round_trip),
            "longest_transaction_s": found.longest_transaction,
            "auth_role": found.auth_role,
            "other_triggers": list(found.other_triggers),
            "notes": list(found.notes),
        }

    def _reading(self) -> Iterator[str]:
        found, sign_up = self.result, self.result.operations[0]
        part = sign_up.usersync.median / found.round_trip.median
        # On the same machine a round trip is short.
        compared = f"{part:.1%} of that" if part < 1 else f"{part:,.1f} times that"
        yield (
            "Medians, with the quartiles in brackets, as PostgreSQL tells them of the statement and of each "
            "trigger; without the commit. "
            f"A round trip from here takes {_spread(found.round_trip)} µs, and what usersync adds to the "
            f"INSERT of a sign-up is {compared}."
        )
        who = f"as {found.auth_role}" if found.auth_role else "as the role of this connection"
        yield (
            f"The auth server's statements were sent {plain(who)}. All was rolled back; no transaction was "
            f"open for longer than {number(found.longest_transaction * 1000)} ms."
        )
        if found.other_triggers:
            yield f"Others: {plain(', '.join(found.other_triggers))}."


def _cells(each: Operation) -> tuple[str, ...]:
    from usersync.plans.bench import BATCH  # noqa: PLC0415 - only when it is wanted

    return (
        _WORDS[each.name].format(batch=BATCH),
        number(each.without.median) if each.without else "-",
        _spread(each.usersync),
        f"{each.share:.0%}",
        number(each.others.median),
    )


def _spread(times: Spread) -> str:
    return f"{number(times.median)} ({number(times.low)} to {number(times.high)})"


@click.command(
    epilog=examples(
        ("usersync bench --dsn $STAGING_URL", "asks before it begins"),
        ("usersync bench --rounds 500 --yes --json", "where nobody can be asked"),
    )
)
@click.option(
    "--rounds",
    type=click.IntRange(_FEWEST, _MOST),
    default=_ROUNDS,
    show_default=True,
    help="How often each statement runs, as far as a minute is enough.",
)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@common_options
def bench(call: Call, rounds: int, *, yes: bool) -> View:
    """Measure what usersync adds to a sign-up, a sign-in and an audited write.

    For a staging database. Runs the auth server's statements, records events and updates rows of a tracked
    table, in short transactions that are rolled back, and asks PostgreSQL how much of the time each trigger
    took. No trigger is switched off, and nothing waits for a lock for longer than a second. What is rolled
    back leaves dead rows for autovacuum, about 28 a round. Refuses where a trigger asks the network.
    """
    from usersync.gotrue.creation import NEW_USER, PASSWORD_HASH, app_metadata  # noqa: PLC0415 - likewise
    from usersync.plans.bench import ROWS_A_ROUND, WARM_UPS, measure  # noqa: PLC0415 - only when it is wanted
    from usersync.plans.bench_surroundings import look  # noqa: PLC0415 - likewise
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help can do without

    call.require_consent(yes=yes)
    new_user = {
        **NEW_USER,
        **app_metadata("email"),
        "encrypted_password": PASSWORD_HASH,
        "raw_user_meta_data": {"full_name": "Ada Lovelace", "avatar_url": "https://example.com/ada.png"},
    }
    with call.connection() as connection:
        around = run(look(), connection)
        if not yes:
            for note in around.notes:
                call.output.tell(*wrap(plain(note), call.output.width))
            tried = rounds + WARM_UPS
            call.ask(
                f"Try {count(tried, 'sign-up')} in {call.target} and roll each back? It leaves about "
                f"{number(tried * ROWS_A_ROUND)} dead rows."
            )
        call.output.tell(faint("Measuring, for a minute at most…"))
        return BenchView(run(measure(around, new_user, rounds=rounds), connection), call.target, rounds)
