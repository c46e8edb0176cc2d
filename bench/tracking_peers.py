"""Ways of tracking a table: other packages unchanged, and triggers written from public descriptions.

Each takes the owner's connection and the names of two tables, and records their changes from then on.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import psycopg

# What most hand-written triggers do: the complete row, before and after, into one table with two indexes.
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
"""
JSON_ROWS_ON = """
create trigger log_json after insert or update or delete on "{table}" for each row execute function log_json()
"""

# What supa_audit is described to do: a row trigger for all tables, which reads the primary key from the
# catalog, makes a stable id of it (uuid v5 there, md5 here, which is cheaper), and writes the old and the new
# row with their ids into one table with these indexes.
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
"""
GENERIC_ROWS_ON = """
create trigger audit after insert or update or delete on "{table}"
    for each row execute procedure insert_update_delete()
"""

# A statement trigger with transition tables that does nothing, in a guarded block.
NOTHING = """
create function do_nothing() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $body$
begin
    begin
        null;
    exception when others then
        null;
    end;
    return null;
end $body$;
"""
NOTHING_ON = """
create trigger a after insert on "{table}" referencing new table as new_rows
    for each statement execute function do_nothing();
create trigger b after update on "{table}" referencing old table as old_rows new table as new_rows
    for each statement execute function do_nothing();
"""


def by_script(script: str, on: str) -> Any:
    """A way that consists of SQL: once per database, and once per table."""

    def install(connection: psycopg.Connection[Any], tables: tuple[str, ...], _: str) -> None:
        connection.execute(script)
        for table in tables:
            connection.execute(on.format(table=table))

    return install


def pghistory(_: psycopg.Connection[Any], tables: tuple[str, ...], dsn: str) -> None:
    """django-pghistory as installed: an event table for each model, filled by its row triggers."""
    import django  # noqa: PLC0415 - a peer, needed here only
    from django.conf import settings  # noqa: PLC0415 - likewise

    where = urlsplit(dsn)
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "pgtrigger", "pghistory"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": where.hostname,
                "PORT": where.port,
                "NAME": where.path.lstrip("/"),
                "USER": where.username,
                "PASSWORD": where.password,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()
    import pghistory as peer  # noqa: PLC0415 - after Django is set up
    from django.core.management import call_command  # noqa: PLC0415 - likewise
    from django.db import connection, models  # noqa: PLC0415 - likewise

    call_command("migrate", verbosity=0)
    for number, table in enumerate(tables):
        fields = {
            "id": models.BigIntegerField(primary_key=True),
            "name": models.TextField(),
            "sku": models.TextField(null=True),
            "price": models.DecimalField(max_digits=10, decimal_places=2, null=True),
            "quantity": models.IntegerField(),
            "active": models.BooleanField(),
            "created_at": models.DateTimeField(),
            "note": models.TextField(null=True),
        }
        meta = type("Meta", (), {"db_table": table, "managed": True, "app_label": "pghistory"})
        model = type(f"Product{number}", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
        peer.track(peer.InsertEvent(), peer.UpdateEvent(), peer.DeleteEvent())(model)
        with connection.schema_editor() as editor:
            editor.create_model(model._meta.get_field("events").related_model)  # noqa: SLF001 - Django's API
        for trigger in model._meta.triggers:  # noqa: SLF001 - where pgtrigger keeps them
            trigger.install(model)
    connection.close()


def postgresql_audit(_: psycopg.Connection[Any], tables: tuple[str, ...], dsn: str) -> None:
    """postgresql-audit as installed: one table of activities, filled by its statement triggers."""
    import sqlalchemy as sa  # noqa: PLC0415 - a peer, needed here only
    from postgresql_audit import VersioningManager  # noqa: PLC0415 - likewise
    from sqlalchemy.orm import configure_mappers, declarative_base  # noqa: PLC0415 - likewise

    base = declarative_base()
    manager = VersioningManager()
    manager.init(base)
    configure_mappers()
    engine = sa.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection, contextlib.redirect_stdout(io.StringIO()):
        base.metadata.create_all(
            connection, tables=[manager.transaction_cls.__table__, manager.activity_cls.__table__]
        )
        for table in tables:
            connection.execute(sa.text("select audit_table(cast(:name as regclass))"), {"name": table})
    engine.dispose()


PEERS = {
    "nothing": by_script(NOTHING, NOTHING_ON),
    "json_row": by_script(JSON_ROWS, JSON_ROWS_ON),
    "generic_row": by_script(GENERIC_ROWS, GENERIC_ROWS_ON),
    "postgresql_audit": postgresql_audit,
    "pghistory": pghistory,
}
PEER_NAMES = {
    "nothing": "a guarded trigger that does nothing",
    "json_row": "a JSON row trigger",
    "generic_row": "supa_audit's way, a generic row trigger",
    "postgresql_audit": "postgresql-audit",
    "pghistory": "django-pghistory",
}
