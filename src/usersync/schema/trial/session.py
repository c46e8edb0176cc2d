"""The auth server's requests within one transaction of the trial, each as a savepoint."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import psycopg

from usersync.gotrue import GoTrue
from usersync.gotrue.creation import NEW_USER
from usersync.gotrue.errors import UNEXPECTED, answering
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from psycopg import sql

    from usersync.schema.trial.environment import TrialEnvironment

_EXPLAIN = "explain (analyze, costs off, format json) "
_WRITE = re.compile(r"\s*(insert into|update|delete from) \"?auth\"?\.\"?(\w+)", re.IGNORECASE)

_REQUEST = "usersync_request"

# If the client dies, the server ends its transaction, at the latest after this idle time.
_LIMITS = {
    "statement_timeout": "3s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "5s",
}


def configure(**settings: str) -> str:
    """A statement for these settings and the trial's time limits, until the transaction ends."""
    calls = [f"set_config('{name}', {literal(value)}, true)" for name, value in (_LIMITS | settings).items()]
    return f"select {', '.join(calls)}"


class Recorder:
    """A connection that records writes to the auth server's tables."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        #: ``("UPDATE", "users")``, in order; the last one may have failed.
        self.sent: list[tuple[str, str]] = []
        #: If set, receives the EXPLAIN output of each statement on auth.users.
        self.times: list[Mapping[str, Any]] | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = self._text(query)
        match = _WRITE.match(text)
        if match:
            self.sent.append((match[1].upper(), match[2]))
        if self.times is None or not match or match[2] != "users":
            return self._connection.execute(query, params, **options)
        done = self._connection.execute(f"{_EXPLAIN}{text}".encode(), params, **options)
        self.times.append(done.fetchall()[0][0][0])
        return done

    def _text(self, query: str | bytes | sql.Composable) -> str:
        if isinstance(query, bytes):
            return query.decode()
        return query if isinstance(query, str) else query.as_string(self._connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class TrialSession(GoTrue):
    """A request is a savepoint here, and ends with the checks of COMMIT.

    It uses the auth server's search path, and its role if allowed. It uses no sequence of the auth server:
    refresh tokens are numbered from -1 down. It omits columns and tables that an older auth server lacks.
    """

    def __init__(self, connection: psycopg.Connection[Any], environment: TrialEnvironment) -> None:
        self.recorder = Recorder(connection)
        super().__init__(cast("psycopg.Connection[Any]", self.recorder))
        self._environment = environment
        self._token_ids = count(-1, -1)

    @contextmanager
    def request(self, message: str = UNEXPECTED) -> Iterator[None]:
        environment = self._environment
        role = environment.auth_role if environment.may_assume else environment.role
        usual = configure(role=environment.role, search_path="pg_catalog")
        # Set the limits for each request, because a trigger may change them for the transaction. Each message
        # is a round trip, and a trial has hundreds of requests.
        with answering(message):
            self._send(f"savepoint {_REQUEST}", configure(role=role, search_path=environment.search_path))
            try:
                yield
                checks = ["set constraints all immediate"]
                if environment.deferred:
                    checks.append(f"set constraints {', '.join(environment.deferred)} deferred")
                self._send(*checks, usual, f"release savepoint {_REQUEST}")
            except BaseException:
                with suppress(psycopg.Error):
                    self._send(f"rollback to savepoint {_REQUEST}", f"release savepoint {_REQUEST}")
                raise

    def _send(self, *statements: str) -> None:
        self.connection.execute("; ".join(statements).encode())

    def user(self, user_id: UUID) -> dict[str, Any]:
        return {**NEW_USER, **super().user(user_id)}

    def _registered(self, kind: str, contact: str | None) -> dict[str, Any] | None:
        if "is_sso_user" in self._environment.tables["users"]:
            return super()._registered(kind, contact)
        found = self._row(f"select * from auth.users where {kind} = %s", contact)
        return found and {**NEW_USER, **found}

    def _insert(self, table: str, columns: Mapping[str, Any]) -> None:
        if table == "refresh_tokens":
            columns = {"id": next(self._token_ids), **columns}
        if table in self._environment.tables:
            super()._insert(table, self._known(table, columns))

    def _update(self, user_id: UUID, **columns: Any) -> None:
        super()._update(user_id, **self._known("users", columns))

    def _known(self, table: str, columns: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in columns.items() if name in self._environment.tables[table]}

    def _store_token(self, user_id: UUID, kind: str, relates_to: str, token: str) -> None:
        if "one_time_tokens" in self._environment.tables:
            super()._store_token(user_id, kind, relates_to, token)

    def _clear_tokens(self, user_id: UUID) -> None:
        if "one_time_tokens" in self._environment.tables:
            super()._clear_tokens(user_id)

    def _log_out(self, user_id: UUID) -> None:
        if "mfa_factors" in self._environment.tables:
            super()._log_out(user_id)
        else:
            self.connection.execute("delete from auth.sessions where user_id = %s", (user_id,))
