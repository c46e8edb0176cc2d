"""An installation with its trial, and a removal. ``usersync apply`` shows each step and asks in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.core.admin_actions import account, record_admin_action
from usersync.manage.connecting import run_on
from usersync.schema import installation, uninstall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psycopg

    from usersync.config.settings import Settings
    from usersync.models import Change, SchemaPlan
    from usersync.schema.trial.observation import Trial
    from usersync.schema.trial.rehearsal import Rehearsal

    Tell = Callable[[str], None]


def can_affect_flows(settings: Settings, changes: Iterable[Change]) -> bool:
    """Whether a change can affect a flow of the auth server. The audit log alone cannot."""
    others = {f"table {settings.audit_table}", "settings"}
    return any(change.subject not in others for change in changes)


class _NotAcceptedError(Exception):
    """Stops ``installation.apply()`` before any trigger is created."""


class Installer:
    """An installation with a trial before it is final.

    Without ``connection``, on which the flows run, there is no trial. ``call_out`` also tries flows whose
    effects a rollback does not undo. ``tell`` is called with a text before each step.
    """

    def __init__(
        self,
        dsn: str,
        settings: Settings,
        connection: psycopg.Connection[Any] | None,
        *,
        adopt: bool = False,
        call_out: bool = False,
        tell: Tell = lambda _: None,
    ) -> None:
        self._dsn = dsn
        self._settings = settings
        self._connection = connection
        self._adopt = adopt
        self._call_out = call_out
        self._tell = tell
        self._today: Trial | None = None
        self._made: list[Change] = []
        self.changes: tuple[Change, ...] = ()
        self.rehearsed: Rehearsal | None = None

    @property
    def differences(self) -> tuple[str, ...]:
        """The differences that a person has to accept, in words."""
        found = self.rehearsed.to_accept if self.rehearsed is not None else ()
        return tuple(f"{each.subject}: {each.message} ({', '.join(each.flows)})" for each in found)

    def run_trial(self, try_all: Callable[[Trial], bool] = lambda _: False) -> Trial | None:
        """Try the flows before the installation.

        ``try_all`` is asked whether to try the flows that were held back, too.
        """
        if self._connection is None:
            return None
        from usersync.config.dsn import describe_target  # noqa: PLC0415 - a driver, which --help does not need
        from usersync.schema.trial.observer import observe  # noqa: PLC0415 - likewise

        self._tell(f"Trying the auth server's flows on {describe_target(self._dsn)}; each is rolled back.")
        self._today = observe(self._connection, self._settings, call_out=self._call_out)
        if self._today.held_back and not self._call_out and try_all(self._today):
            self._call_out = True
            self._today = observe(self._connection, self._settings, call_out=True)
        return self._today

    def install(self, accepts: Callable[[Rehearsal], bool]) -> bool:
        """Install, and record it. Returns whether it was installed.

        ``accepts`` is called with the result of the trial, and returns whether to install if the flows behave
        differently. If not, tables and functions may have been created: call ``undo()``.
        """

        def rehearse(changes: tuple[Change, ...]) -> None:
            done = self._rehearse(changes)
            if done is not None and not accepts(done) and done.to_accept:
                raise _NotAcceptedError

        plan = installation.apply(self._settings, self._made.append, adopt=self._adopt, rehearse=rehearse)
        try:
            self.changes = run_on(self._dsn, plan).changes
        except _NotAcceptedError:
            return False
        if self.changes:
            record_act(self._dsn, self._settings, "usersync.applied", changes=len(self.changes))
        return True

    def _rehearse(self, changes: tuple[Change, ...]) -> Rehearsal | None:
        if self._today is None or self._connection is None or self._today.obstacle or not changes:
            return None
        from usersync.schema.trial.rehearsal import rehearse  # noqa: PLC0415 - only if used

        self._tell("Trying the flows again with usersync's triggers; each is rolled back.")
        self.rehearsed = rehearse(
            self._connection, self._settings, self._today, changes, call_out=self._call_out
        )
        return self.rehearsed

    def undo(self) -> None:
        """Drop the tables and functions that were created before the trial. Nothing uses them yet."""
        if self._made:
            created = {each.subject for each in self._made if each.kind == "create"}
            run_on(self._dsn, uninstall.undo(self._settings, created))


def remove(
    dsn: str, settings: Settings, planned: SchemaPlan, *, drop_users_table: bool, drop_audit_log: bool
) -> SchemaPlan:
    """Make the changes of a rollback, and record it."""
    # Recorded before, because the rollback drops the function that records it.
    if not drop_audit_log:
        record_act(dsn, settings, "usersync.rollback_started", changes=len(planned.changes))
    return run_on(
        dsn,
        installation.rollback(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log),
    )


def record_act(dsn: str, settings: Settings, action: str, **details: Any) -> None:
    """Record an action of this account in the audit log, if one exists."""
    run_on(dsn, record_admin_action(settings, action, by=account(), **details))
