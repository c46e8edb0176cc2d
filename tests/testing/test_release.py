"""release_audit_log(): in test databases, and only there, tests may drop and truncate tables in any order."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import MetaData, create_engine

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.errors import SettingsError
from usersync.testing import GoTrue, is_test_database, release_audit_log

pytestmark = pytest.mark.newest_server


@pytest.fixture
def database(cluster):
    database = clone_installed(cluster, with_audit_log())
    yield database
    cluster.drop(database)


def test_drop_all_and_create_all_work_in_a_test_database(database, postgres):
    engine = create_engine(database.dsn().replace("postgresql:", "postgresql+psycopg:"))
    metadata = MetaData()
    metadata.reflect(engine, only=["users", "audit_logs"])
    foreign_keys = metadata.tables["audit_logs"].foreign_key_constraints
    assert foreign_keys
    for table in ("users", "audit_logs"):
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            postgres.execute(f"drop table {table}")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        postgres.execute("truncate users")
    assert is_test_database(postgres)
    release_audit_log(postgres)
    release_audit_log(postgres)
    users_only = MetaData()
    users_only.reflect(engine, only=["users"])
    for _ in range(2):
        users_only.drop_all(engine)
        users_only.create_all(engine)
    postgres.execute("truncate users")
    with GoTrue(database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    assert postgres.execute("select id from users").fetchall() == [(user_id,)]
    metadata.drop_all(engine)
    engine.dispose()


def test_a_database_that_is_not_a_test_database_is_refused(database, postgres, superuser):
    superuser.execute("comment on schema auth is null")
    assert not is_test_database(postgres)
    with pytest.raises(SettingsError, match="has not made this database"):
        release_audit_log(postgres)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        postgres.execute("drop table audit_logs")
