"""What tracking a table costs, against no trigger and against what others do.

One database, one table for each way of tracking, alike but for the triggers. The ways take turns, in another
order each round; what is reported is the median over the rounds of the ratio to the untracked table of the
same round. Run: python bench/tracking.py [--rounds N] [--pg VERSION] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync.audit.redaction import Redactor
from usersync.embedded import EmbeddedPostgres
from usersync.plans import tracking
from usersync.plans.tracking_state import TrackOptions
from usersync.runner import run
from usersync.settings import Settings
from usersync.testing import SupabaseCluster
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

BULK, SINGLES, COMMITS = 50_000, 4_000, 300

# As on a server of the smallest kind; autovacuum is off because it would come in at its own times.
SERVER = {"shared_buffers": "256MB", "max_wal_size": "4GB", "autovacuum": "off", "checkpoint_timeout": "1h"}

TABLE = """
create table {name} (
    id bigint primary key,
    name text not null,
    sku text,
    price numeric(10, 2),
    quantity integer not null,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    note text
)
"""

# What most recipes do: the whole row, before and after, into one table with two indexes.
JSON_ROWS = """
create table json_log (
    id bigint generated always as identity primary key, at timestamptz not null default now(), relation text,
    operation text, who text, before jsonb, after jsonb
);
create index on json_log (at);
create index on json_log (relation);
create function log_json() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $body$
begin
    insert into public.json_log (relation, operation, who, before, after) values (
        tg_table_name, tg_op, current_setting('request.jwt.claims', true),
        case when tg_op <> 'INSERT' then to_jsonb(old) end,
        case when tg_op <> 'DELETE' then to_jsonb(new) end);
    return null;
end $body$;
create trigger log_json after insert or update or delete on json_row
    for each row execute function log_json();
create trigger log_json after insert or update or delete on json_row_empty
    for each row execute function log_json();
"""

# What supa_audit is described to do: a row trigger for all tables, which looks the primary key up in the
# catalog, makes a stable id of it (uuid v5 there, md5 here, which is cheaper), and writes the old and the
# new row with their ids into one table with these indexes.
GENERIC_ROWS = """
create table record_version (
    id bigint generated always as identity primary key, record_id uuid, old_record_id uuid, op text not null,
    ts timestamptz not null default now(), table_oid oid not null, table_schema name not null,
    table_name name not null, record jsonb, old_record jsonb
);
create index on record_version using brin (ts);
create index on record_version (table_oid);
create index on record_version (record_id) where record_id is not null;
create index on record_version (old_record_id) where old_record_id is not null;
create function primary_key_columns(entity oid) returns text[] stable language sql
set search_path = '' as $body$
    select coalesce(array_agg(pa.attname::text order by pa.attnum), array[]::text[])
    from pg_catalog.pg_index as pi
    join pg_catalog.pg_attribute as pa on pi.indrelid = pa.attrelid and pa.attnum = any(pi.indkey)
    where indrelid = $1 and indisprimary
$body$;
create function to_record_id(entity oid, pkey text[], rec jsonb) returns uuid stable language sql as $body$
    select case
        when rec is null then null
        when pkey = array[]::text[] then gen_random_uuid()
        else (
            select md5((jsonb_build_array(to_jsonb($1)) || jsonb_agg($3 ->> key_))::text)::uuid
            from unnest($2) as x(key_)
        )
    end
$body$;
create function insert_update_delete() returns trigger language plpgsql security definer as $body$
declare
    pkey text[] = primary_key_columns(tg_relid);
    record_jsonb jsonb = to_jsonb(new);
    record_id uuid = to_record_id(tg_relid, pkey, record_jsonb);
    old_record_jsonb jsonb = to_jsonb(old);
    old_record_id uuid = to_record_id(tg_relid, pkey, old_record_jsonb);
begin
    insert into record_version (
        record_id, old_record_id, op, table_oid, table_schema, table_name, record, old_record
    )
    select
        record_id, old_record_id, tg_op, tg_relid, tg_table_schema, tg_table_name, record_jsonb,
        old_record_jsonb;
    return coalesce(new, old);
end $body$;
create trigger audit after insert or update or delete on generic_row
    for each row execute procedure insert_update_delete();
create trigger audit after insert or update or delete on generic_row_empty
    for each row execute procedure insert_update_delete();
"""

# The least that recording in the same transaction can cost: no trigger, and events that are ready already are
# inserted into the log.
LIMIT = """
create table ready (like public.audit_logs);
insert into ready select * from public.audit_logs;
create index on ready ((entity_id::int));
analyze ready;
"""

WAYS = ("none", "limit", "usersync", "json_row", "generic_row")


def prepare(connection: psycopg.Connection[Any], settings: Settings) -> None:
    for way in WAYS:
        for name in (way, f"{way}_empty"):
            connection.execute(TABLE.format(name=f'"{name}"'))
        connection.execute(
            f'insert into "{way}" select n, %s || n, %s || n, n * 1.5, n from generate_series(1, %s) as n',
            ["name of ", "sku-", BULK],
        )
    connection.execute(JSON_ROWS)
    connection.execute(GENERIC_ROWS)
    for name in ("usersync", "usersync_empty"):
        run(tracking.track(settings, name, TrackOptions(), Redactor().is_secret), connection)


def prepare_limit(connection: psycopg.Connection[Any]) -> None:
    """Record some changes, and keep the events to be inserted as they are."""
    connection.execute("update usersync set quantity = quantity + 1")
    connection.execute(LIMIT)
    empty_log(connection)


def ready_event(way: str) -> str:
    """For the limit, what stores the event of one row; else nothing."""
    if way != "limit":
        return ""
    return "insert into public.audit_logs select * from ready where entity_id::int = n;"


def bulk_insert(connection: psycopg.Connection[Any], way: str) -> float:
    """Microseconds a row of one INSERT of many."""
    connection.execute(f'truncate "{way}_empty"')
    statement = (
        f'insert into "{way}_empty" (id, name, sku, price, quantity) '
        f"select n, 'name of ' || n, 'sku-' || n, n * 1.5, n from generate_series(1, {BULK}) as n"
    )
    return timed(lambda: connection.execute(statement + all_ready(way))) / BULK


def all_ready(way: str) -> str:
    """For the limit, what stores the events of all rows; else nothing."""
    return "; insert into public.audit_logs select * from ready" if way == "limit" else ""


def bulk_update(connection: psycopg.Connection[Any], way: str) -> float:
    """Microseconds a row of one UPDATE of many."""
    statement = f'update "{way}" set quantity = quantity + 1'
    return timed(lambda: connection.execute(statement + all_ready(way))) / BULK


def single_updates(connection: psycopg.Connection[Any], way: str) -> float:
    """Microseconds an UPDATE of one row, thousands in one transaction: without client and commit."""
    statement = (
        f"do $body$ begin for n in 1..{SINGLES} loop "
        f'update "{way}" set quantity = quantity + 1 where id = n; {ready_event(way)} end loop; end $body$'
    )
    return timed(lambda: connection.execute(statement)) / SINGLES


def single_inserts(connection: psycopg.Connection[Any], way: str) -> float:
    """Microseconds an INSERT of one row, thousands in one transaction."""
    connection.execute(f'truncate "{way}_empty"')
    statement = (
        f"do $body$ begin for n in 1..{SINGLES} loop "
        f'insert into "{way}_empty" (id, name, sku, price, quantity) '
        "values (n, 'name of ' || n, 'sku-' || n, n * 1.5, n); "
        f"{ready_event(way)} end loop; end $body$"
    )
    return timed(lambda: connection.execute(statement)) / SINGLES


def committed_updates(connection: psycopg.Connection[Any], way: str) -> float:
    """Microseconds an UPDATE of one row from a client, each committed to disk."""

    def update_each() -> None:
        for n in range(1, COMMITS + 1):
            with connection.transaction():
                connection.execute(f'update "{way}" set quantity = quantity + 1 where id = %s', [n])
                if way == "limit":
                    connection.execute(ready_event(way).replace("= n", "= %s"), [n])

    return timed(update_each) / COMMITS


WORKLOADS = (bulk_insert, bulk_update, single_inserts, single_updates, committed_updates)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def measure(connection: psycopg.Connection[Any], rounds: int) -> Iterator[dict[str, Any]]:
    for workload in WORKLOADS:
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way in random.sample(WAYS, len(WAYS)):
                took = workload(connection, way)
                if number:  # the first round warms up
                    times[way].append(took)
            for table in ("json_log", "record_version"):
                connection.execute(f"truncate {table}")
            empty_log(connection)
            for way in WAYS:
                connection.execute(f'vacuum "{way}"')
        for way in WAYS:
            ratios = [took / base for took, base in zip(times[way], times["none"], strict=True)]
            yield {
                "workload": workload.__name__,
                "way": way,
                "median_us": round(statistics.median(times[way]), 2),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_of_minima": round(min(times[way]) / min(times["none"]), 2),
            }


def empty_log(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("set local usersync.maintaining = 'audit'")
        connection.execute("truncate public.audit_logs")


def report(rows: list[dict[str, Any]]) -> None:
    print(f"{'workload':<20}{'way':<14}{'median us':>10}{'ratio':>8}{'of minima':>11}")
    for row in rows:
        print(
            f"{row['workload']:<20}{row['way']:<14}{row['median_us']:>10}{row['ratio']:>8}"
            f"{row['ratio_of_minima']:>11}"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--pg", type=int)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    settings = Settings()
    with EmbeddedPostgres(version=given.pg, settings=SERVER) as server, SupabaseCluster.on(server) as cluster:
        database = cluster.create()
        install(database, settings)
        with database.connect("postgres") as connection:
            connection.execute("set search_path = public")
            prepare(connection, settings)
        with database.connect("supabase_admin") as connection:
            connection.execute("set search_path = public")
            prepare_limit(connection)
            rows = list(measure(connection, given.rounds))
            version = connection.info.parameter_status("server_version")
    print(f"PostgreSQL {version}, fsync on, {BULK} rows in bulk")
    report(rows)
    if given.json:
        given.json.write_text(json.dumps({"postgresql": version, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
