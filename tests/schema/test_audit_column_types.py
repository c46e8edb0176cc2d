"""[audit.columns] with columns of types that the application created."""

from __future__ import annotations

import pytest

from audit_settings import with_audit_log
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run

TABLE = """
    create schema "my types";
    create type public.activity_type as enum ('product.created', 'product.sold');
    create type "my types"."Kind" as enum ('product');
    create table public.activities (
        id bigint generated always as identity primary key, event_id uuid not null unique,
        type public.activity_type not null, kind "my types"."Kind", at timestamptz not null
    );
"""
COLUMNS = {
    "id": "event_id",
    "action": {"column": "type", "type": "public.activity_type"},
    "entity_type": {"column": "kind", "type": '"my types"."Kind"'},
    "occurred_at": "at",
}


def test_an_action_is_stored_in_an_enum_column(database, postgres):
    postgres.execute(TABLE)
    settings = with_audit_log({"audit": {"table": "public.activities", "columns": COLUMNS}})
    install(database, settings)
    answer = postgres.execute(
        "select public.record_audit_events('["
        '{"id": "0197a0c0-0000-7000-8000-000000000001", "action": "product.created", '
        '"entity_type": "product"},'
        '{"id": "0197a0c0-0000-7000-8000-000000000002", "action": "product.lost"}'
        "]')"
    ).fetchone()[0]
    assert (answer["stored"], answer["rejected"]) == (1, 1)
    assert postgres.execute("select type::text, kind::text from public.activities").fetchall() == [
        ("product.created", "product")
    ]


@pytest.mark.parametrize("given", [None, "text", "other.activity_type"])
def test_plan_prints_the_type_of_an_enum_column(postgres, given):
    postgres.execute(TABLE)
    columns = COLUMNS | {"action": {"column": "type", "type": given} if given else "type"}
    settings = with_audit_log({"audit": {"table": "public.activities", "columns": columns}})
    (error,) = run(installation.plan(settings), postgres).errors
    assert 'action = { column = "type", type = "public.activity_type" }' in error.fix
