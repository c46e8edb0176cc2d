"""Migrations that install usersync, and the system check for an outdated database."""

from __future__ import annotations

import io

import pytest
from django.core import checks
from django.core.management import call_command
from django_site import Site, described

from usersync import UserSync
from usersync.errors import ConflictError, SettingsError
from usersync.testing import GoTrue

pytestmark = pytest.mark.newest_server

APPS = ["usersync.contrib.django", "django_shop"]
COLUMNS = {"columns": {"email": "email"}}


@pytest.fixture
def database(cluster):
    """A database without usersync."""
    database = cluster.clone(cluster.template("supabase_old", regime="old"))
    yield database
    cluster.drop(database)


@pytest.fixture
def shop(site, configure):
    configure(django={"INSTALLED_APPS": APPS}, SETTINGS=COLUMNS)
    return site


@pytest.fixture
def migrated(cluster, use, configure):
    """The same project, after ``migrate``."""
    configure(django={"INSTALLED_APPS": APPS}, SETTINGS=COLUMNS)

    def build(database):
        use(default=described(database))
        migrate()
        use()

    database = cluster.clone(cluster.template("django_shop", regime="old", build=build))
    use(default=described(database))
    with database.connect() as owner:
        yield Site(database, owner)
    use()
    cluster.drop(database)


def migrate(*arguments, **options):
    output = io.StringIO()
    call_command("migrate", *arguments, stdout=output, stderr=output, **options)
    return output.getvalue()


def installed(site):
    return site.owner.execute("select to_regnamespace('usersync') is not null").fetchone()[0]


def warnings(alias="default"):
    return [(each.id, each.msg) for each in checks.run_checks(tags=["usersync"], databases=[alias])]


def test_migrate_installs_on_existing_tables(shop):
    assert "Applying django_shop.0002_usersync" in migrate()
    with GoTrue(shop.database.dsn("supabase_auth_admin")) as auth:
        user_id = auth.sign_up_email("ada@example.com")
    found = shop.owner.execute("select id, email from users").fetchall()
    assert found == [(user_id, "ada@example.com")]
    assert "No migrations to apply" in migrate()
    assert warnings() == []


def test_an_existing_installation_is_not_changed(migrated):
    before = migrated.owner.execute("select xmin, oid from pg_proc order by oid").fetchall()
    migrate("django_shop", "0003", fake=True)
    migrated.owner.execute("delete from django_migrations where name = '0003_upgrade'")
    assert "Applying django_shop.0003_upgrade" in migrate()
    assert migrated.owner.execute("select xmin, oid from pg_proc order by oid").fetchall() == before


@pytest.mark.slow
def test_only_reversing_the_first_migration_removes_usersync(migrated):
    with GoTrue(migrated.database.dsn("supabase_auth_admin")) as auth:
        auth.sign_up_email("ada@example.com")
        migrate("django_shop", "0002")
        assert installed(migrated)
        migrate("django_shop", "0001")
        assert not installed(migrated)
        auth.sign_up_email("bea@example.com")
    assert migrated.owner.execute("select email from users").fetchall() == [("ada@example.com",)]
    migrate()
    with UserSync(migrated.database.dsn()) as sync:
        assert sync.sync_all_missing_users().synced == 1


def test_the_sql_can_be_read_and_run_by_hand(shop):
    migrate("django_shop", "0001")
    script = io.StringIO()
    call_command("sqlmigrate", "django_shop", "0002", stdout=script)
    assert not installed(shop)
    shop.owner.execute(script.getvalue())
    migrate("django_shop", "0002", fake=True)
    assert warnings() == []
    call_command("sqlmigrate", "django_shop", "0002", backwards=True, stdout=script)
    assert "usersync rollback" in script.getvalue()


def test_an_atomic_migration_is_refused_and_changes_nothing(site, configure):
    configure(django={"INSTALLED_APPS": ["usersync.contrib.django", "django_atomic"]})
    with pytest.raises(SettingsError, match="runs its own transactions") as raised:
        migrate()
    assert "atomic = False" in raised.value.hint
    assert not installed(site)


def test_an_obstacle_fails_the_migration_with_the_reason(shop):
    shop.owner.execute(
        "create function public.ensure_user_exists(uuid) returns int language sql as 'select 1'"
    )
    with pytest.raises(ConflictError, match="ensure_user_exists"):
        migrate()
    assert not installed(shop)
    shop.owner.execute("drop function public.ensure_user_exists(uuid)")
    migrate()
    assert installed(shop)


def test_another_database_is_not_changed(shop, use, cluster):
    other = cluster.clone(cluster.template("supabase_old", regime="old"))
    try:
        use(default=described(shop.database), other=described(other))
        migrate(database="other")
        with other.connect() as owner:
            assert owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)
            assert owner.execute("select to_regclass('users')::text").fetchone() == ("users",)
        assert warnings("other") == []
    finally:
        use()
        cluster.drop(other)


def test_without_a_database_of_usersync_nothing_is_installed(shop, configure):
    configure(DATABASE=None)
    assert "Applying django_shop.0003_upgrade" in migrate()
    assert not installed(shop)
    assert warnings() == []


def test_makemigrations_finds_no_changes(migrated):
    output = io.StringIO()
    call_command("makemigrations", "usersync", check=True, dry_run=True, stdout=output)
    assert "No changes detected" in output.getvalue()


def test_the_check_is_silent_if_a_pending_migration_fixes_it(shop):
    assert warnings() == []
    assert "usersync.W" not in migrate()


def test_the_check_reports_an_outdated_database(migrated):
    migrated.owner.execute("alter function public.ensure_user_exists(uuid) security invoker")
    ((number, message),) = warnings()
    assert (number, "function public.ensure_user_exists(uuid)" in message) == ("usersync.W001", True)
    migrate("django_shop", "0002")
    # Now a pending migration fixes it.
    assert warnings() == []
    migrate()
    assert warnings() == []


def test_the_check_reports_a_missing_installation(site, configure):
    configure(django={"INSTALLED_APPS": ["usersync.contrib.django"]})
    ((number, message),) = warnings()
    assert (number, "schema usersync" in message) == ("usersync.W001", True)


def test_the_check_reports_an_obstacle(shop):
    migrate("django_shop", "0001")
    shop.owner.execute("alter table users drop column email")
    ((number, message),) = warnings()
    assert (number, "no column email" in message) == ("usersync.W002", True)


def test_the_check_reports_a_newer_database(migrated):
    migrated.owner.execute(
        'update usersync.settings set settings = settings || \'{"library_version": "99.0"}\''
    )
    ((number, message),) = warnings()
    assert (number, "99.0" in message) == ("usersync.W002", True)


@pytest.mark.parametrize("wrong", [{"PORT": "1"}, {"USER": "authenticator"}])
def test_the_check_reports_that_it_cannot_connect(migrated, use, wrong):
    options = {"PASSWORD": migrated.database.passwords["authenticator"]} if "USER" in wrong else {}
    use(default=described(migrated.database, **wrong, **options))
    ((number, _),) = warnings()
    assert number == "usersync.W002"


def test_without_a_database_nothing_is_checked(shop, use):
    use(default=described(shop.database, PORT="1"))
    assert checks.run_checks(tags=["usersync"]) == []
