"""Tracking into an application's own audit table."""

from __future__ import annotations

from audit_settings import with_audit_log
from usersync.audit import reading
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run

SETTINGS = with_audit_log(
    {
        "audit": {
            "table": "app.history",
            "columns": {
                "id": "event_id",
                "occurred_at": "at",
                "action": "what",
                "actor_id": "who",
                "entity_type": "of",
                "entity_id": {"column": "of_id", "type": "integer"},
                "changes": {"column": "diff", "type": "json"},
                "metadata": "more",
            },
        },
    }
)

HISTORY = """
    create schema app;
    create table app.history (
        n bigint generated always as identity primary key, event_id uuid unique, at timestamptz,
        what varchar(40),
        who text, "of" text, of_id integer, diff json, more jsonb
    );
    create table products (id int primary key, name text);
"""


def test_fields_without_a_column_are_stored_in_metadata(database, postgres):
    postgres.execute(HISTORY)
    install(database, SETTINGS)
    run(tracking.track(SETTINGS, "products", TrackOptions(), lambda *_: False), postgres)
    postgres.execute("insert into products values (1, 'Bolt'); update products set name = 'Nut'")
    rows = postgres.execute(
        'select what, who, "of", of_id, diff, more from app.history order by n'
    ).fetchall()
    assert rows[1][:5] == ("products.updated", "postgres", "products", 1, {"name": ["Bolt", "Nut"]})
    assert rows[1][5]["source"] == "trigger"
    assert rows[1][5]["actor_source"] == "role"
    assert len(rows) == 2


def test_values_that_do_not_fit_the_applications_columns_are_rejected(database, postgres):
    postgres.execute(HISTORY + "create table labels (id text primary key)")
    install(database, SETTINGS)
    run(tracking.track(SETTINGS, "labels", TrackOptions(), lambda *_: False), postgres)
    postgres.execute("insert into labels values ('no number')")
    assert postgres.execute(
        "select event ->> 'entity_id', sqlstate from usersync.audit_rejects"
    ).fetchall() == [("no number", "22P02")]


def test_the_order_of_mapped_columns_has_no_effect(database, postgres):
    """The database stores the columns in another order than the settings file."""
    postgres.execute(HISTORY)
    install(database, SETTINGS)
    stored = run(reading.installed_settings(), postgres)
    assert list(stored.audit.columns) != list(SETTINGS.audit.columns)
    run(tracking.track(stored, "products", TrackOptions(), lambda *_: False), postgres)
    assert run(installation.plan(SETTINGS), postgres).changes == ()
