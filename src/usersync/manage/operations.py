"""The functions of ``usersync.manage``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.client import UserSync
from usersync.config.dsn import find_dsn
from usersync.config.settings import load_settings
from usersync.core.installed import settings_in_database
from usersync.doctor import choose, choose_with_canary
from usersync.errors import NotAcceptedError
from usersync.manage.checking import canary_checks, check, known_settings
from usersync.manage.connecting import connected, run_on
from usersync.manage.installing import Installer, can_affect_flows, remove
from usersync.schema import installation
from usersync.schema.findings import PAUSED
from usersync.schema.gates import is_gate
from usersync.sql.script import install_script

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from usersync.config.settings import Settings
    from usersync.models import Change, Check, Finding, SchemaPlan, SyncResult


@dataclass(frozen=True)
class Applied:
    """The result of ``apply()``."""

    #: What was changed, in this order. Empty if everything was up to date.
    changes: tuple[Change, ...]
    #: Warnings and problems that did not prevent it.
    findings: tuple[Finding, ...]
    #: The differences that the trial found, and that were accepted. Empty without a trial.
    differences: tuple[str, ...] = ()
    #: The sync of the existing users; None with ``sync=False``, or during a pause.
    sync: SyncResult | None = None


def plan(dsn: str | None = None, settings: Settings | None = None, *, adopt: bool = False) -> SchemaPlan:
    """The changes that ``apply()`` would make, and the findings. Writes nothing. Blocks.

    ``adopt`` is that of ``apply()``. Findings of level ``error`` (``SchemaPlan.errors``) would stop it.
    """
    return run_on(find_dsn(dsn), installation.plan(settings or load_settings(), adopt=adopt))


def apply(
    dsn: str | None = None,
    settings: Settings | None = None,
    *,
    adopt: bool = False,
    accept_changes: bool = False,
    call_out: bool = False,
    trial: bool = True,
    sync: bool = True,
) -> Applied:
    """Install or upgrade, then sync the existing users, as ``usersync apply --yes`` does. Blocks.

    Changes nothing that is up to date. ``adopt`` replaces hand-written triggers, until ``rollback()``. The
    trial tries the auth server's flows before and after. If one behaves differently, nothing is installed
    and ``NotAcceptedError`` is raised, unless ``accept_changes``. ``call_out`` also tries flows in which a
    trigger calls another server. ``trial=False`` is for test databases. ``sync=False`` leaves the existing
    users to ``UserSync.reconcile()``.

    Raises ``ConflictError`` if an object of the database prevents the installation.
    """
    dsn, settings = find_dsn(dsn), settings or load_settings()
    planned = run_on(dsn, installation.plan(settings, adopt=adopt))
    installation.raise_errors(planned.findings)
    if not accept_changes:
        _refuse(f"{each.subject}: {each.message}" for each in planned.findings if is_gate(each))
    with (
        connected(dsn)
        if trial and can_affect_flows(settings, planned.changes)
        else nullcontext() as connection
    ):
        installer = Installer(dsn, settings, connection, adopt=adopt, call_out=call_out)
        installer.run_trial()
        if not installer.install(lambda _: accept_changes):
            installer.undo()
            _refuse(installer.differences)
    paused = any(each.subject == PAUSED for each in planned.findings)
    synced = None
    if sync and not paused:
        with UserSync(dsn) as client:
            synced = client.reconcile(retry_failures=True)
    return Applied(installer.changes, planned.findings, installer.differences, synced)


def rollback(
    dsn: str | None = None, *, drop_users_table: bool = False, drop_audit_log: bool = False
) -> SchemaPlan:
    """Remove usersync, and return what was dropped and what stays. Blocks.

    The users table stays, and so does an audit log that has events. The options drop them with all their
    rows, if usersync created them. Uses the settings that usersync was last applied with. Raises
    ``NotInstalledError``.
    """
    dsn = find_dsn(dsn)
    settings = run_on(dsn, settings_in_database()) or load_settings()
    planned = run_on(
        dsn,
        installation.plan_rollback(
            settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log
        ),
    )
    return remove(dsn, settings, planned, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log)


def doctor(
    dsn: str | None = None,
    settings: Settings | None = None,
    *,
    only: Collection[str] = (),
    canary: bool = False,
    call_out: bool = False,
) -> tuple[Check, ...]:
    """Run the checks of ``usersync doctor`` and return their results, with fixes. Writes nothing. Blocks.

    Without ``settings``, those that usersync was last applied with. ``only`` names checks, such as
    ``"D004"``. ``canary`` also tries every kind of sign-up, change and deletion, each of which is rolled
    back. A check that fails is a result, and raises nothing.
    """
    dsn = find_dsn(dsn)
    checks, of_canary = choose_with_canary(only) if canary else (choose(only), ())
    with connected(dsn) as connection:
        known = known_settings(connection, load_settings()) if settings is None else (settings, True)
        done = check(connection, dsn, *known, checks)
        if not canary:
            return done
        return (*done, *canary_checks(connection, known[0], of_canary, call_out=call_out)[0])


def _refuse(differences: Iterable[str]) -> None:
    found = tuple(differences)
    if found:
        raise NotAcceptedError(
            f"nothing was installed, because {len(found)} differences were not accepted: {'; '.join(found)}",
            hint="Change the settings or the triggers. To install anyway, set accept_changes=True.",
            differences=found,
        )


def sql(settings: Settings | None = None) -> tuple[str, ...]:
    """The SQL that installs or upgrades, without a connection: the texts of ``usersync sql``.

    Run them in this order, each in its own transaction; usually there is one. Each is one statement, so
    every driver takes it, also in an open transaction. No trial, no sync.
    """
    return install_script(settings or load_settings())
