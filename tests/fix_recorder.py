"""What a request of the auth server wrote to auth.users, as a trigger of the superuser's saw it."""

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
    """What one request wrote: the operation of each statement, and the columns each UPDATE changed."""

    operations: str
    transactions: int
    changed: list[set[str]]


@pytest.fixture
def recorded(superuser):
    """Call a method of the driver and return its result, with what it wrote."""
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
