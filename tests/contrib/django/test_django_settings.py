"""The setting USERSYNC, and the connection string of the database."""

from __future__ import annotations

import psycopg
import pytest
from django.core import checks
from django_site import described

from usersync.config.extras import EXTRAS, Requirement
from usersync.contrib.django import audit
from usersync.contrib.django.config import config
from usersync.contrib.django.connection_strings import dsn_of
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

WRONG = {
    "no dict": ([], "expected a dict, got list"),
    "an unknown key": ({"DATABSE": "default"}, "unknown key 'DATABSE'"),
    "an alias that is none": ({"DATABASE": "defualt"}, "no database 'defualt'"),
    "an alias that is no name": ({"DATABASE": {}}, "no database"),
    "proxies as a text": ({"TRUSTED_PROXIES": "10.0.0.1"}, "expected a list"),
    "a network with clients": ({"TRUSTED_PROXIES": ["0.0.0.0/0"]}, "also contains clients"),
    "proxies that are no list": ({"TRUSTED_PROXIES": 5}, "TRUSTED_PROXIES"),
    "an actor that is none": ({"ACTOR": 5}, "expected a function"),
    "an actor that is nowhere": ({"ACTOR": "no.such.thing"}, "ACTOR: No module"),
    "an unknown option of the log": ({"AUDIT": {"durablity": "memory"}}, "unknown option 'durablity'"),
    "a wrong option of the log": ({"AUDIT": {"durability": "paper"}}, "durability"),
    "options that are none": ({"AUDIT": None}, "expected a dict"),
    "tokens that are none": ({"TOKENS": True}, "expected a dict or None"),
    "settings that are none": ({"SETTINGS": "usersync.toml"}, "expected a dict or None"),
    "a wrong setting": ({"SETTINGS": {"on_delete": "burn"}}, "SETTINGS.*on_delete"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_invalid_settings_are_an_error_of_the_system_check(site, configure, given, message):
    configure(django={"USERSYNC": given})
    (error,) = checks.run_checks(tags=["usersync"], databases=["default"])
    assert (error.id, error.level) == ("usersync.E001", checks.ERROR)
    with pytest.raises(SettingsError, match=message):
        config().schema_settings()


def test_tokens_without_the_package_that_checks_them_are_an_error_of_the_system_check(
    site, configure, monkeypatch
):
    monkeypatch.setitem(EXTRAS, "auth", [Requirement("jwt_is_not_installed", "pyjwt[crypto]")])
    configure(TOKENS={"url": "http://localhost"})
    (error,) = checks.run_checks(tags=["usersync"])
    assert (error.id, error.hint) == ("usersync.E001", "pip install 'pyjwt[crypto]'")


@pytest.mark.parametrize("given", [{"DATABASE": "defualt"}, {"TOKENS": {"url": "nowhere"}}])
def test_invalid_settings_stop_the_server_at_its_start(site, configure, given):
    configure(**given)
    with pytest.raises(SettingsError):
        site.wsgi("nothing")


def test_another_kind_of_database_is_refused_by_name(site, use):
    use(default={**described(site.database), "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
    with pytest.raises(SettingsError, match="the database 'default' is not PostgreSQL"):
        dsn_of("default")
    with pytest.raises(SettingsError, match="no database 'other'"):
        dsn_of("other")


def test_the_connection_string_is_that_of_django(site, use):
    password = "it's; a 'pass\\word' =%20"  # noqa: S105
    name = psycopg.sql.Literal(password)
    with site.database.connect("supabase_admin") as superuser:
        superuser.execute(psycopg.sql.SQL("create role odd login password {}").format(name))
        superuser.execute('create role "service one" in role postgres; grant "service one" to odd')
    options = {"application_name": "shop", "options": "-c statement_timeout=7s", "pool": False}
    use(
        default=described(
            site.database,
            USER="odd",
            PASSWORD=password,
            OPTIONS={**options, "assume_role": "service one", "server_side_binding": True},
        )
    )
    try:
        with psycopg.connect(dsn_of("default")) as connection:
            found = connection.execute(
                "select session_user, current_user, current_setting('statement_timeout'), "
                "current_setting('application_name')"
            ).fetchone()
        assert found == ("odd", "service one", "7s", "shop")
    finally:
        with site.database.connect("supabase_admin") as superuser:
            superuser.execute('drop role odd; drop role "service one"')


def test_the_log_follows_the_name_that_a_test_runner_gives_the_database(site, use, cluster):
    audit.record("first.database")
    assert audit.flush()
    other = cluster.clone(cluster.template("django"))
    try:
        use(default=described(other))
        audit.record("second.database")
        assert audit.flush()
        with other.connect() as owner:
            assert owner.execute("select action from audit_logs").fetchall() == [("second.database",)]
    finally:
        use(default=described(site.database))
        cluster.drop(other)
    assert site.events("action") == ["first.database"]


def test_without_a_database_events_are_kept_in_memory_alone(site, configure):
    configure(DATABASE=None, AUDIT={})
    assert site.wsgi("record").status == 200
    assert (audit.stats().in_memory, audit.stats().spooled, audit.stats().writer) == (1, 0, "not started")


def test_the_file_beside_manage_py_is_read_without_settings_in_the_dict(site, configure, tmp_path):
    (tmp_path / "usersync.toml").write_text('on_delete = "keep"')
    configure(django={"BASE_DIR": tmp_path})
    assert (config().schema_settings().on_delete, config().settings_source) == ("keep", "usersync.toml")
    configure(django={"BASE_DIR": tmp_path}, SETTINGS={"on_delete": "delete"})
    assert config().schema_settings().on_delete == "delete"
    configure(django={"BASE_DIR": tmp_path / "elsewhere"})
    assert (config().schema_settings().on_delete, config().settings_source) == ("anonymize", "defaults")


@pytest.mark.slow
def test_each_service_has_a_spool_of_its_own(site, use, tmp_path):
    for service in ("shop", "bank"):
        use(default=described(site.database, NAME="", HOST="", PORT="", OPTIONS={"service": service}))
        audit.record("a.b")
    assert len(list((tmp_path / "spool").iterdir())) == 2
