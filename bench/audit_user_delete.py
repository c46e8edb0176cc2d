"""How long the auth server takes to delete a user who has very many events, and "usersync retry" to finish.

The auth server gives up after 10 s. ``at once`` is what the foreign key alone would take.
Usage: python bench/audit_user_delete.py [events]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync import UserSync
from usersync.embedded import EmbeddedPostgres
from usersync.settings import parse_settings
from usersync.testing import GoTrue, SupabaseCluster
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import psycopg

EVENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB"}

FILL = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_id, actor_type, user_id, entity_type, entity_id, changes,
        source)
    select gen_random_uuid(), now() - n * interval '1 second', 'stock.adjusted', 'succeeded', %(user)s::text,
        'user', %(user)s, 'product', n %% 10000, '{"quantity": [1, 2]}', 'app'
    from generate_series(1, %(events)s) as n
"""


def fill(owner: psycopg.Connection[Any], user_id: UUID) -> None:
    owner.execute("set statement_timeout = 0")
    owner.execute(FILL, {"user": user_id, "events": EVENTS})
    owner.execute("vacuum analyze public.audit_logs")


def measure(cluster: SupabaseCluster, on_delete: str) -> dict[str, Any]:
    """Seconds of the auth server's DELETE, of the foreign key alone (rolled back), and of the retry."""
    database = cluster.create()
    install(database, parse_settings({"on_delete": on_delete}))
    with (
        database.connect("postgres") as owner,
        GoTrue(database.dsn("supabase_auth_admin")) as auth,
        UserSync(database.dsn()) as client,
    ):
        user_id = auth.sign_up_email("ada@example.com")
        fill(owner, user_id)
        result = {"auth server": timed(lambda: auth.hard_delete(user_id))}
        if on_delete == "delete":
            result["at once"] = timed(lambda: delete_at_once(owner, user_id))
        result["retry"] = timed(client.retry)
        assert client.status().in_step
        links = owner.execute("select count(user_id), count(actor_id) from public.audit_logs").fetchone()
        assert links == (0 if on_delete == "delete" else EVENTS, EVENTS)
    cluster.drop(database)
    return result


def delete_at_once(owner: psycopg.Connection[Any], user_id: UUID) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("delete from public.users where id = %s", [user_id])


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    with EmbeddedPostgres(settings=SETTINGS) as server, SupabaseCluster.on(server) as cluster:
        results = {on_delete: measure(cluster, on_delete) for on_delete in ("anonymize", "delete")}
        version = server.version
    for on_delete, result in results.items():
        print(f"{on_delete:<10}", *(f"{name} {seconds:9.3f} s  " for name, seconds in result.items()))
    saved = {"postgresql": version, "events": EVENTS, "seconds": results}
    Path(__file__).with_suffix(".json").write_text(json.dumps(saved, indent=2) + "\n")


if __name__ == "__main__":
    main()
