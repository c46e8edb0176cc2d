"""Each breakage makes an INSERT fail as documented, and is repaired afterwards."""

from __future__ import annotations

import psycopg
import pytest

from usersync.config.mapping import TableName
from usersync.testing import BREAKAGES, broken_users_table

QUOTED_NAMES = TableName('we"ird schema', 'my {users} %s "table"')


def create(postgres, table):
    postgres.execute(f"create schema if not exists {psycopg.sql.Identifier(table.schema).as_string()}")
    postgres.execute(
        f"create table {table.quoted} (id uuid primary key, email text, plan text default 'free')"
    )
    postgres.execute(f"insert into {table.quoted} values (gen_random_uuid(), 'ada@example.com')")


def insert(postgres, table, email="ada@example.com"):
    """Insert a row as an application does. Return the number of inserted rows."""
    with postgres.transaction():
        postgres.execute("set local lock_timeout = '50ms'")
        statement = f"insert into {table.quoted} (id, email) values (gen_random_uuid(), '{email}')"
        return postgres.execute(statement).rowcount


def schema_state(postgres):
    """The columns, privileges and objects that a breakage could leave changed."""
    relations = """
        select n.nspname, c.relname, c.relacl::text, a.attname, a.atttypid::regtype::text, a.attnotnull
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where n.nspname !~ '^(pg_|information_schema|auth$)' order by 1, 2, 4
    """
    names = """
        select conname from pg_constraint union all select proname from pg_proc where proname like 'usersync%'
        union all select tgname from pg_trigger union all select nspname from pg_namespace order by 1
    """
    return postgres.execute(relations).fetchall(), postgres.execute(names).fetchall()


@pytest.mark.parametrize(
    "table", [TableName("public", "users"), QUOTED_NAMES], ids=["plain names", "quoted names"]
)
@pytest.mark.parametrize("how", BREAKAGES)
def test_a_breakage_has_its_documented_error_and_is_repaired(postgres, database, how, table):
    create(postgres, table)
    before = schema_state(postgres)
    with broken_users_table(database.dsn(), how, table=table):
        if BREAKAGES[how].sqlstate is None:
            assert insert(postgres, table) == 0
        else:
            with pytest.raises(psycopg.Error) as refused:
                insert(postgres, table)
            assert refused.value.sqlstate == BREAKAGES[how].sqlstate
    assert schema_state(postgres) == before
    assert insert(postgres, table) == 1


def test_a_breakage_is_repaired_after_an_exception(postgres, database):
    create(postgres, TableName("public", "users"))
    with pytest.raises(ZeroDivisionError), broken_users_table(database.dsn(), "missing"):
        raise ZeroDivisionError
    assert insert(postgres, TableName("public", "users")) == 1


def test_an_unknown_breakage_raises_with_its_name(database):
    with (
        pytest.raises(ValueError, match="unknown breakage 'melted'; known: missing"),
        broken_users_table(database.dsn(), "melted"),
    ):
        pass
