"""Reconciling, compared with its limit: one bare statement that does the same work.

The bare INSERT … SELECT and the bare full join are the best that PostgreSQL can do, without pages, guards,
failures table or resuming. Memory is that of the server process that did the work.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import LOGGED, Row, faster, medians, plain, slower, superuser_of, take_turns, timed
from usersync import UserSync
from usersync.config.settings import Settings
from usersync.core.reconcile import PAGE_SIZE
from usersync.sql.render import Renderer
from usersync.testing.install import install

if TYPE_CHECKING:
    from contextlib import ExitStack

    import psycopg

    from measuring import Lab
    from usersync.testing import SupabaseDatabase

FILL = """
    insert into auth.users (instance_id, id, aud, role, email, raw_app_meta_data, raw_user_meta_data,
        created_at, updated_at, is_sso_user, is_anonymous)
    select '00000000-0000-0000-0000-000000000000', gen_random_uuid(), 'authenticated', 'authenticated',
        'user' || n || '@example.com', '{"provider": "email", "providers": ["email"]}',
        jsonb_build_object('full_name', 'User ' || n, 'avatar_url', 'https://example.com/' || n || '.png'),
        now(), now(), false, false
    from generate_series(1, %s) as n
"""

BARE_INSERT = """
    insert into "@users_table" as target ("@columns")
    select '@plain_values' from "@source_table" as source where source.deleted_at is null
    on conflict ("@key") do nothing
"""

BARE_COMPARISON = """
    select count(*) from (select null::jsonb as defaults) as known
    cross join "@source_table" as source
    full join "@users_table" as target on target."@key" = source.id
    where row('@stored_auth_values') is distinct from row('@source_auth_values')
"""

#: How many of a million users differ in the benchmark with few differences.
FEW = 100


class Filled:
    """One database with this number of users."""

    def __init__(self, database: SupabaseDatabase, users: int) -> None:
        self.superuser: psycopg.Connection[Any] = superuser_of(database)
        self.database = database
        self._render = Renderer(Settings()).render
        self._users = users
        self.superuser.execute("set session_replication_role = replica")
        self.superuser.execute(FILL, [users])
        self.superuser.execute("vacuum analyze auth.users")

    def reconcile(self) -> float:
        """Seconds a user of a usersync run."""
        with UserSync(self.database.dsn()) as sync:
            took = timed(lambda: self._check(sync))
        return took / self._users

    @staticmethod
    def _check(sync: UserSync) -> None:
        result = sync.reconcile()
        assert not result.errors

    def reconcile_all(self) -> float:
        """The same, if no user has a row."""
        self.empty()
        return self.reconcile()

    def reconcile_analyzed_empty(self) -> float:
        """The same, if the planner has statistics of an empty table."""
        self.empty()
        self.superuser.execute("analyze public.users")
        return self.reconcile()

    def reconcile_few(self) -> float:
        """The same, if a few users have another address, spread over all ids."""
        self.superuser.execute(
            "update public.users set email = 'x' where id in (select id from (select id, row_number() over "
            f"(order by id) as n from public.users) as numbered where n % {max(1, self._users // FEW)} = 0)"
        )
        return self.reconcile()

    def status(self) -> float:
        """Seconds a user of user_sync_status()."""
        with self.database.connect("postgres") as owner:
            return timed(lambda: owner.execute("select public.user_sync_status()")) / self._users

    def bare_insert(self) -> float:
        """Seconds a user of one INSERT … SELECT."""
        self.empty()
        return timed(lambda: self.superuser.execute(self._render(BARE_INSERT))) / self._users

    def paged_insert(self, hold: str) -> float:
        """Like the INSERT, by ranges of ids, each committed; optionally with the users' rows locked."""
        self.empty()
        bounds = [
            id_
            for (id_,) in self.superuser.execute(
                "select id from (select id, row_number() over (order by id) as n from auth.users) as ids "
                f"where n % {PAGE_SIZE} = 1 or n = {self._users} order by id"
            )
        ]
        insert = self._render(BARE_INSERT).replace(
            "on conflict", f"and source.id between %s and %s {hold} on conflict"
        )
        pages = list(pairwise(bounds))
        self.superuser.execute("set enable_seqscan = off")
        took = timed(lambda: [self.superuser.execute(insert, page) for page in pages])
        self.superuser.execute("reset enable_seqscan")
        return took / self._users

    def bare_comparison(self) -> float:
        """Seconds a user of one full join."""
        return timed(lambda: self.superuser.execute(self._render(BARE_COMPARISON))) / self._users

    def one_by_one(self, count: int) -> float:
        """Seconds a user of a loop that checks for a row and inserts it, for a part of the users."""
        self.empty()
        with self.database.connect("postgres") as owner:
            users = owner.execute("select id, email from auth.users limit %s", [count]).fetchall()
            return timed(lambda: [self._exists_then_insert(owner, *user) for user in users]) / count

    @staticmethod
    def _exists_then_insert(owner: psycopg.Connection[Any], user: object, email: str) -> None:
        if not owner.execute("select 1 from public.users where id = %s", [user]).fetchone():
            owner.execute("insert into public.users (id, email) values (%s, %s)", [user, email])

    def memory(self, *, missing: bool) -> float | None:
        """The private memory of the server process of a run, in megabytes; None if the system does not report
        it.
        """
        if missing:
            self.empty()
        with self.database.connect("postgres") as owner:
            UserSync(owner).reconcile()
            status = Path(f"/proc/{owner.info.backend_pid}/status")
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(found[1]) / 1024 if found else None

    def settle(self) -> None:
        """Every user has a row, and the planner's statistics are current."""
        self.reconcile()
        self.superuser.execute("vacuum analyze public.users")

    def empty(self) -> None:
        self.superuser.execute("truncate public.users cascade")
        self.superuser.execute("checkpoint")


def filled(lab: Lab, stack: ExitStack, users: int) -> Filled:
    """A database with this number of users, who have no rows yet."""
    database = stack.enter_context(lab.database())
    install(database, LOGGED)
    here = Filled(database, users)
    stack.callback(here.superuser.close)
    return here


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, and the time of each way."""
    users = lab.options.users
    here = filled(lab, stack, users)
    rounds = max(3, lab.rounds // 2)
    missing = take_turns(
        {
            "ours": here.reconcile_all,
            "analyzed empty": here.reconcile_analyzed_empty,
            "INSERT … SELECT": here.bare_insert,
            "INSERT … SELECT by pages": lambda: here.paged_insert(""),
            "the same, rows held": lambda: here.paged_insert("for key share of source"),
            "one by one": lambda: here.one_by_one(2_000),
        },
        rounds,
        warm_up=False,
    )
    here.settle()
    nothing = take_turns(
        {"ours": here.reconcile, "status": here.status, "full join": here.bare_comparison}, lab.rounds
    )
    few = take_turns({"ours": here.reconcile_few, "full join": here.bare_comparison}, rounds, warm_up=False)
    what = f"reconcile {users:,} users"
    one, join = "one bare INSERT … SELECT", "one bare full join"
    rows = [
        slower(f"{what}, all missing", one, missing, "ours", "INSERT … SELECT", limit=1.5),
        slower(
            f"{what}, all missing, the empty table analyzed",
            one,
            missing,
            "analyzed empty",
            "INSERT … SELECT",
            limit=1.5,
        ),
        faster(
            f"{what}, all missing", "a loop of exists-then-insert", missing, "ours", "one by one", limit=100
        ),
        slower(f"{what}, nothing to do", join, nothing, "ours", "full join", limit=2),
        slower(f"status of {users:,} users", join, nothing, "status", "full join"),
        slower(f"{what}, {FEW} differ", join, few, "ours", "full join"),
    ]
    memories = {"all missing": here.memory(missing=True), "nothing to do": here.memory(missing=False)}
    rows += [
        plain(f"{what}, {name}: memory of the server process", "", [each], "MB")
        for name, each in memories.items()
        if each is not None
    ]
    return rows, {
        "unit": "µs a user",
        "missing": medians(missing),
        "nothing": medians(nothing),
        "few": medians(few),
    }
