"""Reconciling against the limit: one bare statement that does the same in one go. Run with: make bench

The bare INSERT … SELECT and the bare full join are what PostgreSQL can do at best, without pages, guards,
ledger or resuming. Memory is that of the server process that did the work.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import Result, arguments, paired, per_row, production_cluster, report, timed
from usersync import UserSync
from usersync.settings import Settings
from usersync.sql.render import Renderer
from usersync.testing.install import install

if TYPE_CHECKING:
    import psycopg

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
    select '@source_values' from "@source_table" as source where source.deleted_at is null
    on conflict ("@key") do nothing
"""

BARE_COMPARISON = """
    select count(*) from "@source_table" as source
    full join "@users_table" as target on target."@key" = source.id
    where row('@stored_auth_values') is distinct from row('@source_auth_values')
"""


def main() -> None:
    """Run all comparisons and print the table."""
    options = arguments("Reconciling against one bare statement.", users=1_000_000)
    renderer = Renderer(Settings())
    with production_cluster(options.pg) as (server, cluster):
        database = cluster.create()
        install(database, Settings())
        with database.connect("supabase_admin") as superuser:
            superuser.execute("set session_replication_role = replica")
            superuser.execute("set statement_timeout = 0")
            superuser.execute(FILL, [options.users])
            superuser.execute("vacuum analyze auth.users")
            bench = Bench(database, superuser, renderer, options.users, options.rounds)
            results = [
                bench.missing("all missing", analyzed_empty=False),
                bench.missing("the same, the empty table analyzed before", analyzed_empty=True),
                bench.nothing_to_do(),
            ]
            report("reconcile", server, results)
            bench.memory()


class Bench:
    """One database with so many users in it."""

    def __init__(
        self,
        database: SupabaseDatabase,
        superuser: psycopg.Connection[Any],
        renderer: Renderer,
        users: int,
        rounds: int,
    ) -> None:
        self._database = database
        self._superuser = superuser
        self._renderer = renderer
        self._users = users
        self._rounds = rounds

    def missing(self, name: str, *, analyzed_empty: bool) -> Result:
        """Everybody is missing."""
        ours, theirs = [], []
        for _ in range(self._rounds):
            self._empty(analyzed=False)
            theirs.append(timed(lambda: self._superuser.execute(self._renderer.render(BARE_INSERT))))
            self._empty(analyzed=analyzed_empty)
            ours.append(timed(self._reconcile))
        return paired(
            f"reconcile {self._users:,} users, {name}",
            "one INSERT … SELECT",
            "≤ 1.5",
            ours=ours,
            theirs=theirs,
            unit=per_row(self._users),
        )

    def nothing_to_do(self) -> Result:
        """Nobody differs."""
        self._superuser.execute("vacuum analyze public.users")
        ours, theirs = [], []
        for _ in range(self._rounds):
            theirs.append(timed(lambda: self._superuser.execute(self._renderer.render(BARE_COMPARISON))))
            ours.append(timed(self._reconcile))
        return paired(
            f"reconcile {self._users:,} users, nothing to do",
            "one full join",
            "≤ 2",
            ours=ours,
            theirs=theirs,
            unit=per_row(self._users),
        )

    def memory(self) -> None:
        """Print how much memory of its own the server process has used at the most."""
        self._empty(analyzed=False)
        with self._database.connect("postgres") as connection:
            UserSync(connection).reconcile(page_size=5000)
            pid = connection.info.backend_pid
            status = Path(f"/proc/{pid}/status")
            if status.exists():
                found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
                print(
                    f"\nmemory of the server process after {self._users:,} users: {int(found[1]) // 1024} MB"
                )

    def _reconcile(self) -> None:
        with UserSync(self._database.dsn()) as sync:
            result = sync.reconcile()
        assert not result.errors

    def _empty(self, *, analyzed: bool) -> None:
        self._superuser.execute("truncate public.users")
        self._superuser.execute("checkpoint")
        if analyzed:
            self._superuser.execute("analyze public.users")


if __name__ == "__main__":
    main()
