"""The duration of the auth server's deletion of a user with very many events, and of "usersync retry".

The auth server gives up after 10 s. ``at once`` is the duration with the foreign key alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from measuring import LOGGED, Row, plain, timed
from usersync import UserSync
from usersync.testing import GoTrue
from usersync.testing.install import install

if TYPE_CHECKING:
    from contextlib import ExitStack
    from uuid import UUID

    import psycopg

    from measuring import Lab

FILL = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_id, actor_type, user_id, entity_type, entity_id, changes,
        source)
    select gen_random_uuid(), now() - n * interval '1 second', 'stock.adjusted', 'succeeded', %(user)s::text,
        'user', %(user)s, 'product', n %% 10000, '{"quantity": [1, 2]}', 'app'
    from generate_series(1, %(events)s) as n
"""


def measure(lab: Lab, _: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the table, in seconds. Each is measured once, because a user can be deleted only once."""
    events, rows = lab.options.deleted, []
    for on_delete in ("anonymize", "delete"):
        for what, seconds in _delete(lab, on_delete, events).items():
            name = f'on_delete = "{on_delete}", a user with {events:,} events: {what}'
            rows.append(plain(name, "", [seconds], "s"))
    return rows, {}


def _delete(lab: Lab, on_delete: str, events: int) -> dict[str, float]:
    """Seconds of the auth server's DELETE, of the foreign key alone (rolled back), and of the retry."""
    with lab.database() as database:
        install(database, replace(LOGGED, on_delete=on_delete))
        with (
            database.connect("postgres") as owner,
            GoTrue(database.dsn("supabase_auth_admin")) as auth,
            UserSync(database.dsn()) as client,
        ):
            owner.execute("set statement_timeout = 0")
            user_id = auth.sign_up_email("ada@example.com")
            owner.execute(FILL, {"user": user_id, "events": events})
            owner.execute("vacuum analyze public.audit_logs")
            result = {"the auth server's DELETE": timed(lambda: auth.hard_delete(user_id))}
            if on_delete == "delete":
                result["the foreign key alone"] = timed(lambda: _delete_at_once(owner, user_id))
            result["usersync retry"] = timed(client.retry)
            assert client.status().in_step
            links = owner.execute("select count(user_id), count(actor_id) from public.audit_logs").fetchone()
            assert links == (0 if on_delete == "delete" else events, events)
    return result


def _delete_at_once(owner: psycopg.Connection[Any], user_id: UUID) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("delete from public.users where id = %s", [user_id])
