"""Records what a request of the auth server writes to auth.users, by a trigger of the superuser."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

RECORDER = """
    create schema recorder;
    create table recorder.writes (
      n bigint generated always as identity, op text, xid xid8, before jsonb, after jsonb);
    create function recorder.record() returns trigger language plpgsql security definer set search_path = ''
    as $$
    begin
      insert into recorder.writes (op, xid, before, after) values (
        tg_op, pg_catalog.pg_current_xact_id(),
        case when tg_op <> 'INSERT' then pg_catalog.to_jsonb(old) end,
        case when tg_op <> 'DELETE' then pg_catalog.to_jsonb(new) end);
      return null;
    end $$;
    create trigger recorder after insert or update or delete on auth.users
      for each row execute function recorder.record()
"""


@dataclass(frozen=True)
class Writes:
    """The writes of one request: the first letter of each operation, and the columns that each UPDATE
    changed.
    """

    operations: str
    transactions: int
    changed: list[set[str]]


@pytest.fixture
def recorded(superuser):
    """A function that calls a method of the driver, and returns its result and its writes."""
    superuser.execute(RECORDER)

    def call(method, *arguments, **options):
        superuser.execute("truncate recorder.writes")
        result = method(*arguments, **options)
        rows = superuser.execute("select op, xid, before, after from recorder.writes order by n").fetchall()
        updates = [(before, after) for op, _, before, after in rows if op == "UPDATE"]
        changed = [{key for key in new if new[key] != old[key]} - {"updated_at"} for old, new in updates]
        operations = "".join(op[0] for op, *_ in rows)
        return result, Writes(operations, len({xid for _, xid, *_ in rows}), changed)

    return call
