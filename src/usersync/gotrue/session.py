"""The auth server's database session: its transactions, and the few statements that it repeats."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from usersync.gotrue.errors import UNEXPECTED, GoTrueError, answering

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOKENS = (
    "confirmation_token",
    "recovery_token",
    "email_change_token_current",
    "email_change_token_new",
    "phone_change_token",
    "reauthentication_token",
)
DUPLICATE = {
    "email": "A user with this email address has already been registered",
    "phone": "Phone number already registered by another user",
}
JSON_COLUMNS = frozenset({"raw_app_meta_data", "raw_user_meta_data", "identity_data"})


class AuthSession:
    """A connection as ``supabase_auth_admin``, and GoTrue's way of using it."""

    def __init__(self, target: str | psycopg.Connection[Any]) -> None:
        """Connect to a DSN, or borrow an autocommit connection, which then stays the caller's to close.

        A borrowed connection that is already in a transaction is joined: nothing is begun or committed, and
        the caller decides when the request ends.
        """
        self._owned = isinstance(target, str)
        # No prepared statements: a test may change auth.users, as a migration of GoTrue does.
        self.connection: psycopg.Connection[Any] = (
            psycopg.connect(target, autocommit=True, prepare_threshold=None)
            if isinstance(target, str)
            else target
        )

    def close(self) -> None:
        """Close the connection, unless it was passed in."""
        if self._owned:
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def request(self, message: str = UNEXPECTED) -> Iterator[None]:
        """Run one HTTP request's worth of statements: one transaction, no savepoint anywhere in it.

        GoTrue nests its calls of Transaction, but only the outermost begins and commits (dial.go:375-401), so
        that one failing statement takes the whole request with it. Requests nested in a ``with
        auth.request():`` of the test's own join it.
        """
        joined = self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        with answering(message):
            if joined:
                yield
            else:
                with self.connection.transaction():
                    yield

    def user(self, user_id: UUID) -> dict[str, Any]:
        """Return the row of auth.users; raises the server's 404 if there is none."""
        row = self._row("select * from auth.users where id = %s", user_id)
        if row is None:
            raise GoTrueError(404, "user_not_found", "User not found")
        return row

    def _registered(self, kind: str, contact: str | None) -> dict[str, Any] | None:
        """The user with this e-mail or phone; SSO users do not count, whose address is theirs alone."""
        by = {"email": "email", "phone": "phone"}[kind]
        return self._row(f"select * from auth.users where {by} = %s and not is_sso_user", contact)

    def _refuse_taken(self, kind: str, contact: str) -> None:
        if self._registered(kind, contact):
            raise GoTrueError(422, f"{kind}_exists", DUPLICATE[kind])

    def _row(self, statement: Any, *arguments: Any) -> dict[str, Any] | None:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement, arguments).fetchone()

    def _rows(self, statement: Any, *arguments: Any) -> list[dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement, arguments).fetchall()

    def _insert(self, table: str, columns: Mapping[str, Any]) -> None:
        statement = sql.SQL("insert into auth.{} ({}) values ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
        )
        self.connection.execute(statement, _adapted(columns))

    def _update(self, user_id: UUID, **columns: Any) -> None:
        """Send one UPDATE of these columns. ``updated_at`` always goes along (dial.go:412-437)."""
        columns["updated_at"] = now()
        assignments = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns]
        statement = sql.SQL("update auth.users set {} where id = %s").format(sql.SQL(", ").join(assignments))
        self.connection.execute(statement, [*_adapted(columns), user_id])

    def _merge(self, user_id: UUID, column: str, updates: Mapping[str, Any]) -> None:
        """Read metadata, merge, write all of it back; null deletes a key (models/user.go)."""
        merged = dict(self.user(user_id)[column] or {})
        for key, value in updates.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        self._update(user_id, **{column: merged})

    def _confirm_email(self, user_id: UUID) -> None:
        """Two UPDATEs: the token and the time, then ``email_verified`` (models/user.go:524-535)."""
        self._update(user_id, confirmation_token="", email_confirmed_at=now())
        self._merge(user_id, "raw_user_meta_data", {"email_verified": True})
        self._clear_tokens(user_id)

    def _confirm_phone(self, user_id: UUID) -> None:
        self._update(user_id, confirmation_token="", phone_confirmed_at=now())
        self._clear_tokens(user_id)

    def _send_token(self, user_id: UUID, kind: str, relates_to: str, **also: Any) -> None:
        """Store a token in its column and, since 2024, in one_time_tokens."""
        token = secrets.token_hex(28)
        self._update(user_id, **{kind: token}, **also)
        self._store_token(user_id, kind, relates_to, token)

    def _store_token(self, user_id: UUID, kind: str, relates_to: str, token: str) -> None:
        self.connection.execute(
            "delete from auth.one_time_tokens where user_id = %s and token_type = %s", (user_id, kind)
        )
        token_row = {"id": uuid4(), "user_id": user_id, "token_type": kind}
        self._insert("one_time_tokens", {**token_row, "token_hash": token, "relates_to": relates_to})

    def _clear_tokens(self, user_id: UUID) -> None:
        self.connection.execute("delete from auth.one_time_tokens where user_id = %s", (user_id,))

    def _grant(self, user_id: UUID) -> None:
        """Begin a session and give out a refresh token; last comes last_sign_in_at, one UPDATE.

        Source: models/refresh_token.go, createRefreshToken.
        """
        with answering("Database error granting user"):
            at, session_id = now(), uuid4()
            times = {"created_at": at, "updated_at": at}
            self._insert("sessions", {"id": session_id, "user_id": user_id, **times})
            token = {"token": secrets.token_hex(6), "user_id": str(user_id), "session_id": session_id}
            self._insert("refresh_tokens", {**token, "revoked": False, "parent": "", **times})
            self._update(user_id, last_sign_in_at=at)


def fresh_email() -> str:
    return f"user-{secrets.token_hex(6)}@example.com"


def fresh_phone() -> str:
    return f"1555{secrets.randbelow(10**10):010d}"


def now() -> datetime:
    """GoTrue's own clock: its timestamps are not the database's."""
    return datetime.now(UTC)


def _adapted(columns: Mapping[str, Any]) -> list[Any]:
    return [
        Jsonb(value) if name in JSON_COLUMNS and value is not None else value
        for name, value in columns.items()
    ]
